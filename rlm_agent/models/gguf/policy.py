"""A GGUF model as a policy: conversations in, texts out, over an engine."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rlm_agent.models.gguf.chat import ChatTemplate
from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job, Result, Tokens
from rlm_agent.models.protocols import Completion, Decoding, Message, Request
from rlm_agent.structure.errors import PromptTooLongError


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
        self._template = ChatTemplate(self.file)
        self.adapter = adapter
        named = f":{adapter}" if adapter else ""
        self.identity = f"gguf:{self.file.identity}:{self.engine.settings.identity}{named}"
        self.task = self.file.metadata.get("rlm.task")
        self.decoding = _recommended(self.file.metadata)

    def close(self) -> None:
        """Free the model; the policy cannot be used afterwards."""
        self.engine.close()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order.

        Raises `PromptTooLongError` where the messages of a request leave no room for an answer; a request
        whose prefix has outgrown the context comes back as an error, its siblings unharmed.
        """
        jobs = [self._job(request) for request in requests]
        return [_completion(*pair) for pair in zip(jobs, self.engine.complete(jobs), strict=True)]

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        """See `generate`; the event loop stays free."""
        jobs = [self._job(request) for request in requests]
        return [_completion(*pair) for pair in zip(jobs, await self.engine.acomplete(jobs), strict=True)]

    def release(self, messages: Sequence[Message], dead: Sequence[tuple[str, str]]) -> None:
        """See `Caching`; the cells of these branches are given back between two batches."""
        start = self._template.tokens(messages)
        for parent, prefix in dead:
            tokens = (*start, *self.file.tokenize(prefix))
            self.engine.release(tokens, len(start) + len(self.file.tokenize(parent)), self.adapter)

    def prompt(self, messages: Sequence[Message], prefix: str) -> Tokens:
        """The tokens of a conversation and of the assistant's turn as far as it has come."""
        start = self._template.tokens(messages)
        if len(start) >= self.engine.longest:
            raise PromptTooLongError(
                f"the prompt has {len(start)} tokens and the model's context {self.engine.longest}; "
                "shorten the question or load the model with a larger context"
            )
        return (*start, *self.file.tokenize(prefix))

    def _job(self, request: Request) -> Job:
        return Job(
            prompt=self.prompt(request.messages, request.prefix),
            max_tokens=request.max_tokens,
            seed=request.seed,
            decoding=request.decoding,
            stops=tuple(stop.encode() for stop in request.stop),
            alternatives=request.alternatives,
            code=request.code,
            adapter=self.adapter,
        )


def _completion(job: Job, result: Result) -> Completion:
    text = result.text
    if result.finish == "stop":
        ends = [end for stop in job.stops if (end := text.find(stop)) >= 0]
        text = text[: min(ends, default=len(text))]
    return Completion(
        text=text.decode(errors="replace"),
        tokens=len(result.tokens),
        logprob=result.logprob,
        finish=result.finish,
        prompt_tokens=result.computed,
        cached_tokens=result.cached,
        error=result.error,
        trace=result.trace,
    )


def _recommended(metadata: dict[str, str]) -> Decoding:
    """What the file's `general.sampling.*` say, llama.cpp's own keys; what is absent or broken is default."""
    plain = Decoding()

    def read(key: str, default: float, low: float, high: float) -> float:
        try:
            number = float(metadata[f"general.sampling.{key}"])
        except (KeyError, ValueError):
            return default
        return number if low <= number <= high else default

    return Decoding(
        temperature=read("temp", plain.temperature, 0, 100),
        top_k=int(read("top_k", plain.top_k, 0, 1e6)),
        top_p=read("top_p", plain.top_p, 1e-6, 1),
        min_p=read("min_p", plain.min_p, 0, 1),
    )
