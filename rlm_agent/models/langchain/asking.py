"""One call of `ChatGGUF`: what the caller said, as a job of the engine and a reader of what it brings."""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import BaseModel

from rlm_agent.models.gguf.engine.engine import Piece
from rlm_agent.models.gguf.engine.jobs import Job, Result, Tokens
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.gguf.sampling.schemas import json_grammar
from rlm_agent.models.gguf.toolcalls import Style, call_grammar, call_id, either_grammar
from rlm_agent.models.hearing import Text
from rlm_agent.models.langchain.conversation import choice_of, conversation, offered
from rlm_agent.models.langchain.reading import Calls, Part, Reader
from rlm_agent.models.protocols import Decoding
from rlm_agent.structure.errors import (
    GrammarError,
    InputError,
    ModelError,
    PromptTooLongError,
    UnknownNameError,
)
from rlm_agent.structure.ids import derive_seed

_DECODING = frozenset(each.name for each in fields(Decoding)) - {"logit_bias", "grammar"}
_IGNORED = frozenset(("stream", "strict", "max_retries", "n"))
"""Said by some callers of all models, and without an effect here: a grammar is always strict."""


class Parameters(BaseModel):
    """What may be said of one call or of all, explained by `ChatGGUF`; None leaves it to the model."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None
    seed: int | None = None
    grammar: str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    timeout: float | None = None


class Said(Parameters):
    """What is said of one call."""

    tools: Sequence[Any] = ()
    tool_choice: Mapping[str, Any] | str | bool | None = None
    parallel_tool_calls: bool | None = None
    response_format: Mapping[str, Any] | None = None

    def but(self, others: Mapping[str, Any]) -> "Said":
        """The same, but for what a call says otherwise; `UnknownNameError` for what nobody understands."""
        known = set(Said.model_fields)
        if unknown := sorted(set(others) - known - _IGNORED):
            raise UnknownNameError(
                f"ChatGGUF has no parameter {unknown[0]!r}; it takes {', '.join(sorted(known))}"
            )
        return self.model_copy(update={name: value for name, value in others.items() if name in known})

    def decoding(self, recommended: Decoding) -> Decoding:
        """How tokens are drawn: as the model recommends, but for what was said; `InputError` for nonsense."""
        own = {name: getattr(self, name, None) for name in _DECODING}
        given = {name: value for name, value in own.items() if value is not None}
        if self.logit_bias:
            given["logit_bias"] = tuple((int(token), bias) for token, bias in self.logit_bias.items())
        decoding = replace(recommended, **given)
        low = min(decoding.temperature, decoding.top_k, decoding.min_p)
        if low < 0 or not 0 < decoding.top_p <= 1 or decoding.repeat_penalty <= 0:
            raise InputError(
                f"{decoding} draws nothing; temperature, top_k and min_p are at least 0, top_p is in (0, 1], "
                "repeat_penalty above 0"
            )
        return decoding


@dataclass(slots=True)
class Asked:
    """A job, and how chunks of a message are read off what it brings."""

    policy: GGUFPolicy
    job: Job
    timeout: float | None
    _reader: Reader
    _text: Text
    _ids: int

    def read(self, heard: Piece | list[Result]) -> Iterator[ChatGenerationChunk]:
        """The chunks that follow from what `Engine.stream` brings of the job.

        Raises `GrammarError` where no token could follow a grammar, `ModelError` where the model failed.
        """
        if isinstance(heard, tuple):
            yield from self._chunks(self._reader.feed(self._text.feed(heard[1])))
            return
        (result,) = heard
        if result.error is not None:
            kind = GrammarError if "grammar" in result.error else ModelError
            raise kind(result.error)
        yield from self._chunks(self._reader.feed(self._text.feed(b"", final=True)))
        yield from self._chunks(self._reader.end())
        yield ChatGenerationChunk(message=self._last(result))

    def _chunks(self, parts: Iterable[Part]) -> Iterator[ChatGenerationChunk]:
        for part in parts:
            if part.index is None:
                yield ChatGenerationChunk(message=AIMessageChunk(content=part.text))
                continue
            id = None if part.name is None else call_id(self._ids, part.index)
            call = tool_call_chunk(name=part.name, args=part.text, id=id, index=part.index)
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[call]))

    def _last(self, result: Result) -> AIMessageChunk:
        prompt, generated = len(self.job.prompt), len(result.tokens)
        finish = "length" if result.finish == "length" else "stop"
        told: dict[str, Any] = {
            "finish_reason": "tool_calls" if self._reader.complete and finish == "stop" else finish,
            "stop_sequence": self._text.stopped_by,
            "model_name": named(self.policy.file.path),
            "model_provider": "gguf",
        }
        if result.trace is not None:
            told["logprobs"] = {"content": list(_logprobs(result, self.policy.file))}
        return AIMessageChunk(
            content="",
            chunk_position="last",
            response_metadata=told,
            usage_metadata=UsageMetadata(
                input_tokens=prompt,
                output_tokens=generated,
                total_tokens=prompt + generated,
                input_token_details=InputTokenDetails(cache_read=result.cached),
            ),
        )


def asked(policy: GGUFPolicy, messages: Sequence[BaseMessage], said: Said) -> Asked:
    """The job for a conversation.

    Raises `InputError` for messages and parameters that cannot be used, `PromptTooLongError` where the prompt
    leaves no room for an answer, `GrammarError` for tools and schemas that no grammar can be made of.
    """
    tools = offered(said.tools)
    grammar, calls, style = _forced(policy, said)
    talk = conversation(messages)
    prompt = _prompt(policy, policy.template.tokens(talk.turns, tools=tools), talk.prefix)
    decoding = replace(said.decoding(policy.decoding), grammar=grammar)
    most = said.max_tokens
    if most is not None and most < 1:
        raise InputError(f"max_tokens={most} leaves no answer; give at least 1")
    seed = secrets.randbits(32) if said.seed is None else said.seed
    stops = tuple(said.stop or ())
    job = Job(
        prompt=prompt,
        max_tokens=policy.engine.longest if most is None else most,
        seed=seed,
        decoding=decoding,
        stops=tuple(stop.encode() for stop in stops if stop),
        alternatives=(said.top_logprobs or 0) if said.logprobs or said.top_logprobs else None,
        adapter=policy.adapter,
    )
    ids = derive_seed(seed, "prompt", len(prompt))
    return Asked(policy, job, said.timeout, Reader(calls, style), Text(stops), ids)


def named(path: Path) -> str:
    """What a model is called in traces."""
    return path.stem


def _prompt(policy: GGUFPolicy, start: Sequence[int], prefix: str) -> Tokens:
    prompt = (*start, *policy.file.continued(prefix))
    if len(prompt) >= policy.engine.longest:
        raise PromptTooLongError(
            f"the prompt has {len(prompt)} tokens and the model's context {policy.engine.longest}; shorten "
            "the conversation or load the model with a larger context"
        )
    return prompt


def _forced(policy: GGUFPolicy, said: Said) -> tuple[str | None, Calls, Style]:
    """The grammar that the answer has to follow, and how calls are found in it."""
    style = policy.template.style
    choice, tools = choice_of(said.tool_choice), offered(said.tools)
    parallel = said.parallel_tool_calls is not False
    schema = _schema(said.response_format)
    if (said.grammar is not None) + (schema is not None) + (bool(tools) and choice != "none") > 1:
        if schema is None or said.grammar is not None or choice != "auto":
            raise InputError("an answer follows one grammar; leave out tools, response_format or grammar")
        style = replace(style, bare=False)
        calls = call_grammar(tools, choice="required", parallel=parallel, style=style)
        return either_grammar(calls or "", json_grammar(schema)), "first", style
    if schema is not None:
        return json_grammar(schema), "none", style
    if not tools and choice not in ("auto", "none"):
        raise InputError(f"tool_choice={choice!r} chooses among no tools; bind some")
    if said.grammar is not None or choice == "none" or not tools:
        return said.grammar, "none", style
    grammar = call_grammar(tools, choice=choice, parallel=parallel, style=style)
    return grammar, "auto" if choice == "auto" else "forced", style


def _schema(response_format: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The schema in OpenAI's `response_format`; None for plain text."""
    match response_format:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
    raise InputError(
        f"{dict(response_format)!r} is no response_format; give a json_schema as OpenAI's interface has it"
    )


def _logprobs(result: Result, file: ModelFile) -> Iterator[dict[str, Any]]:
    """The trace of a result in OpenAI's form."""

    def told(token: int, logprob: float) -> dict[str, Any]:
        piece = file.piece(token, special=True)
        return {"token": piece.decode(errors="replace"), "bytes": list(piece), "logprob": logprob}

    trace = result.trace
    for at, token in enumerate(trace.tokens if trace is not None else ()):
        assert trace is not None
        likeliest = [told(*each) for each in trace.alternatives[at]]
        yield {**told(token, trace.logprobs[at]), "top_logprobs": likeliest}
