"""A GGUF model as a policy: conversations in, texts out, over an engine."""

from collections.abc import AsyncGenerator, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlm_agent.models.gguf.advice import decoding_in, prompts_in
from rlm_agent.models.gguf.chat import ChatTemplate
from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job, Result, Tokens
from rlm_agent.models.gguf.named import NamedTokens
from rlm_agent.models.gguf.toolcalls import Function, Style, Tool, call_grammar
from rlm_agent.models.hearing import Text, first_stop
from rlm_agent.models.protocols import Completion, Decoding, Message, Piece, Request
from rlm_agent.structure.errors import GrammarError, InputError, PromptTooLongError
from rlm_agent.tools.syntax import REACT, JsonCalls, Syntax


class GGUFPolicy:
    """A policy over a GGUF file.

    A request's completion depends on the request alone, to the bit, as far as `Engine` says. `context`,
    `threads`, `gpu_layers`, `exact` and `adapters` are those of `Engine`; `adapter` names the one in force.
    Safe to share between threads and event loops, whose requests run together.
    Raises `ModelFileError` for a file that cannot be loaded.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        context: int | None = None,
        threads: int | None = None,
        gpu_layers: int = 0,
        exact: bool = True,
        adapters: Mapping[str, str | Path] | None = None,
        adapter: str | None = None,
    ) -> None:
        self.engine = Engine(
            path, context=context, threads=threads, gpu_layers=gpu_layers, exact=exact, adapters=adapters
        )
        self.file = self.engine.file
        self.template = ChatTemplate(self.file)
        self.adapter = adapter
        named = f":{adapter}" if adapter else ""
        self.identity = f"gguf:{self.file.identity}:{self.engine.settings.identity}{named}"
        self.task = self.file.metadata.get("rlm.task")
        self.decoding = decoding_in(self.file.metadata)
        self.prompts = prompts_in(self.file.metadata)
        self._named = NamedTokens(self.file)

    @property
    def syntax(self) -> Syntax:
        """How it calls tools: in JSON, as its chat template shows; a specialist and others in lines of text.

        Where the template opens a call by a control token, which leaves no text, a label stands there.
        """
        style = self.template.style
        if self.task is not None or not self.template.knows_tools:
            return REACT
        if style.bare or style.silent or style.listed or not style.closing:
            return JsonCalls(key=style.arguments)
        return JsonCalls(style.opening, style.closing, style.arguments)

    def call_grammar(self, tools: Sequence[tuple[str, Mapping[str, Any]]], syntax: Syntax) -> str | None:
        """See `Calling`; None also for schemas that no grammar can be made of."""
        if not isinstance(syntax, JsonCalls):
            return None
        style = Style("steps", syntax.opening, syntax.closing, syntax.key)
        defined = [
            Tool(type="function", function=Function(name=name, parameters=schema)) for name, schema in tools
        ]
        try:
            grammar = call_grammar(defined, parallel=True, style=style)
        except GrammarError:
            return None
        return grammar and grammar.replace('"\\n"? call "\\n"? ', "call ").replace('("\\n" ', '("" ')

    def close(self) -> None:
        """Free the model; the policy cannot be used afterwards."""
        self.engine.close()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order.

        Raises `PromptTooLongError` where the messages of a request leave no room for an answer; a request
        whose prefix has outgrown the context comes back as an error, its siblings unharmed. Raises
        `InputError` for a special token that the model lacks.
        """
        jobs = [self._job(request) for request in requests]
        results = self.engine.complete(jobs)
        return [self._completion(*pair) for pair in zip(requests, results, strict=True)]

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        """See `generate`; the event loop stays free."""
        jobs = [self._job(request) for request in requests]
        results = await self.engine.acomplete(jobs)
        return [self._completion(*pair) for pair in zip(requests, results, strict=True)]

    def stream(self, requests: Sequence[Request]) -> Generator[Piece | list[Completion]]:
        """See `Streaming`, and `generate` for what is raised."""
        texts = [Text(_stops(request)) for request in requests]
        with closing(self.engine.stream([self._job(request) for request in requests])) as told:
            for heard in told:
                yield from self._told(requests, texts, heard)

    async def astream(self, requests: Sequence[Request]) -> AsyncGenerator[Piece | list[Completion]]:
        """See `stream`; the event loop stays free."""
        texts = [Text(_stops(request)) for request in requests]
        async with aclosing(self.engine.astream([self._job(request) for request in requests])) as told:
            async for heard in told:
                for one in self._told(requests, texts, heard):
                    yield one

    def _told(
        self, requests: Sequence[Request], texts: Sequence[Text], heard: tuple[int, bytes] | list[Result]
    ) -> Iterator[Piece | list[Completion]]:
        """What follows from some more bytes, or from the results."""
        if isinstance(heard, tuple):
            index, piece = heard
            if text := texts[index].feed(piece):
                yield Piece(index, text)
            return
        for index, result in enumerate(heard):
            if result.error is None and (text := texts[index].feed(b"", final=True)):
                yield Piece(index, text)
        yield [self._completion(*pair) for pair in zip(requests, heard, strict=True)]

    def release(self, messages: Sequence[Message], dead: Sequence[tuple[str, str]]) -> None:
        """See `Caching`; the cells of these branches are given back between two batches."""
        start = self.template.tokens(messages)
        named = self._named.asked
        for parent, prefix in dead:
            tokens = (*start, *self._named.tokenize(prefix, named))
            self.engine.release(tokens, len(start) + len(self._named.tokenize(parent, named)), self.adapter)

    def prompt(self, messages: Sequence[Message], prefix: str, special: Collection[str] = ()) -> Tokens:
        """The tokens of a conversation and of the assistant's turn as far as it has come.

        In `prefix`, a text that is among `special` stands for the token of that text.
        """
        start = self.template.tokens(messages)
        if len(start) >= self.engine.longest:
            raise PromptTooLongError(
                f"the prompt has {len(start)} tokens and the model's context {self.engine.longest}; "
                "shorten the question or load the model with a larger context"
            )
        return (*start, *self._named.tokenize(prefix, special))

    def _job(self, request: Request) -> Job:
        return Job(
            prompt=self.prompt(request.messages, request.prefix, request.stop_tokens),
            max_tokens=request.max_tokens,
            seed=request.seed,
            decoding=self._stopping(request),
            stops=tuple(stop.encode() for stop in _stops(request)),
            alternatives=request.alternatives,
            code=request.code,
            adapter=self.adapter,
        )

    def _stopping(self, request: Request) -> Decoding:
        """The request's decoding, which also stops at its special tokens: their pieces are empty."""
        for text in request.stop_tokens:
            if self.file.ends(self._named.token(text)):
                raise InputError(
                    f"{text!r} ends all that {self.file.path} writes, not a step; name another token"
                )
        tokens = tuple(self._named.token(text) for text in (*request.stop_tokens, *request.end_tokens))
        own = request.decoding
        return replace(own, stop_tokens=(*own.stop_tokens, *tokens)) if tokens else own

    def _completion(self, request: Request, result: Result) -> Completion:
        text, finish = result.text, result.finish
        if finish == "stop":
            found = first_stop(text, [stop.encode() for stop in _stops(request)])
            end, stop = found or (len(text), b"")
            text = text[:end]
            last = [self._named.token(token) for token in request.end_tokens]
            finish = "end" if stop.decode() in request.end_tokens or result.tokens[-1] in last else finish
        return Completion(
            text=text.decode(errors="replace"),
            tokens=len(result.tokens),
            logprob=result.logprob,
            finish=finish,
            prompt_tokens=result.computed,
            cached_tokens=result.cached,
            error=result.error,
            trace=result.trace,
            interval=result.interval,
        )


def _stops(request: Request) -> tuple[str, ...]:
    """The texts that end a completion and are no part of it."""
    return (*request.stop, *request.end_tokens)
