"""A GGUF model as a policy: requests with one prompt share its computation, all decode in one batch."""

import asyncio
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.chat import ChatTemplate
from rlm_agent.models.gguf.context import EXACT_BATCH, Context, Row
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.gguf.prefixes import PrefixCache, Tokens
from rlm_agent.models.gguf.sampling import Floats, draw, uniforms
from rlm_agent.models.protocols import Completion, Decoding, Finish, Request
from rlm_agent.structure.errors import DecodeError, InputError, PromptTooLongError

DEFAULT_CONTEXT = 4096
_GPU_BATCH = 512
_PARALLEL = EXACT_BATCH
"""Requests at a time; with as many prompts and all that is kept, they stay below `MAX_SEQUENCES`."""
_KEPT = 96
_SMALL_FILE = 20_000_000
"""Bytes under which one thread is used: two gain little there, and wait for each other on a busy machine."""


@dataclass(slots=True)
class _Stream:
    """A request under way."""

    request: Request
    prompt: Tokens
    sequence: int
    numbers: Floats
    limit: int
    computed: int
    cached: int
    generated: list[int] = field(default_factory=list)
    text: bytes = b""
    logprob: float = 0.0
    finish: Finish | None = None

    def completion(self) -> Completion:
        assert self.finish is not None
        text = self.text.decode(errors="replace")
        if self.finish == "stop" and self.request.stop is not None:
            text = text.partition(self.request.stop)[0]
        return Completion(text, len(self.generated), self.logprob, self.finish, self.computed, self.cached)


class GGUFPolicy:
    """A policy over a GGUF file.

    A request's completion depends on the request alone, to the bit: neither on who shares its batch nor on
    what was asked before. That holds on the CPU (`gpu_layers=0`) and with `flash_attention` only.

    `context` bounds the tokens of one sequence and, shared prefixes counted once, of all cached ones;
    `threads` defaults to the machine's cores, to one for models under 20 MB. Safe to
    share between threads and event loops: requests of different callers take turns.
    Raises `ModelFileError` for a file that cannot be loaded.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        context: int | None = None,
        threads: int | None = None,
        gpu_layers: int = 0,
        flash_attention: bool = True,
    ) -> None:
        cells = DEFAULT_CONTEXT if context is None else context
        if cells < 1:
            raise InputError(f"a context of {cells} tokens holds nothing; give at least 1")
        self._file = ModelFile(Path(path), gpu_layers)
        self._template = ChatTemplate(self._file)
        self._longest = min(cells, self._file.trained_context)
        self._context = Context(
            self._file,
            cells=cells,
            batch=_GPU_BATCH if gpu_layers else EXACT_BATCH,
            threads=threads or _threads(self._file.path),
            flash_attention=flash_attention,
        )
        self._cache = PrefixCache(self._context, _KEPT)
        self._pieces: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self.identity = f"gguf:{self._file.identity}:flash={int(flash_attention)}"
        self.task = self._file.metadata.get("rlm.task")
        self.decoding = _recommended(self._file.metadata)

    def close(self) -> None:
        """Free the context and the weights; the policy cannot be used afterwards."""
        with self._lock:
            self._context.close()
            self._file.close()

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        """See `generate`; runs in a worker thread, so that the event loop stays free."""
        return await asyncio.to_thread(self.generate, requests)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order.

        Raises `PromptTooLongError` where the messages of a request leave no room for an answer; a request
        whose prefix has outgrown the context comes back as an error, its siblings unharmed.
        """
        with self._lock:
            self._context.require_usable()
            prompts = [self._prompt(request) for request in requests]
            pending = iter(zip(requests, prompts, strict=True))
            done: list[Completion] = []
            try:
                while part := list(islice(pending, _PARALLEL)):
                    done += self._generate_together(part)
            except BaseException:
                # An interrupt may fall between any two lines: forget everything, so that nothing leaks.
                self._cache.clear()
                raise
        return done

    def _prompt(self, request: Request) -> Tokens:
        messages = self._template.tokens(request.messages)
        if len(messages) >= self._longest:
            raise PromptTooLongError(
                f"the prompt has {len(messages)} tokens and the model's context {self._longest}; "
                "shorten the question or load the model with a larger context"
            )
        return (*messages, *self._file.tokenize(request.prefix))

    def _generate_together(self, part: list[tuple[Request, Tokens]]) -> list[Completion]:
        fitting = [(request, prompt) for request, prompt in part if len(prompt) < self._longest]
        if not self._make_room(fitting):
            half = len(part) // 2
            return self._generate_together(part[:half]) + self._generate_together(part[half:])
        streams = self._start(fitting)
        while live := [stream for stream in streams if stream.finish is None]:
            rows = [
                Row(s.generated[-1], len(s.prompt) + len(s.generated) - 1, s.sequence, True) for s in live
            ]
            self._advance(live, self._context.decode(rows))
        for stream in streams:
            self._cache.keep((*stream.prompt, *stream.generated[:-1]), stream.sequence)
        finished = iter(stream.completion() for stream in streams)
        return [next(finished) if len(prompt) < self._longest else _full() for _, prompt in part]

    def _make_room(self, part: list[tuple[Request, Tokens]]) -> bool:
        """Whether the cache, emptied if need be, holds all that these requests may need; one always fits."""
        if self._needed(part) > self._context.room:
            self._cache.clear()
        return len(part) < 2 or self._needed(part) <= self._context.room

    def _needed(self, part: list[tuple[Request, Tokens]]) -> int:
        computed = sum(len(prompt) - self._cache.known(prompt) for prompt in {prompt for _, prompt in part})
        return computed + sum(self._limit(request, prompt) for request, prompt in part)

    def _limit(self, request: Request, prompt: Tokens) -> int:
        return min(request.max_tokens, self._longest - len(prompt))

    def _start(self, part: list[tuple[Request, Tokens]]) -> list[_Stream]:
        """Compute each distinct prompt once, fork it for its requests and draw their first tokens."""
        prompts = {prompt: index for index, prompt in enumerate(dict.fromkeys(p for _, p in part))}
        forks = [self._cache.fork(prompt) for prompt in prompts]
        logits = self._prefill(prompts, forks)
        streams = []
        paid: set[Tokens] = set()
        for request, prompt in part:
            sequence, shared = forks[prompts[prompt]]
            computed = 0 if prompt in paid else len(prompt) - shared
            paid.add(prompt)
            limit = self._limit(request, prompt)
            streams.append(
                _Stream(
                    request,
                    prompt,
                    self._context.fork(sequence, len(prompt)),
                    uniforms(request.seed, limit),
                    limit,
                    computed,
                    len(prompt) - computed,
                )
            )
        self._advance(streams, logits[[prompts[prompt] for _, prompt in part]])
        for prompt, (sequence, _) in zip(prompts, forks, strict=True):
            self._cache.keep(prompt, sequence)
        return streams

    def _prefill(self, prompts: Iterable[Tokens], forks: list[tuple[int, int]]) -> NDArray[np.float32]:
        """The logits after each prompt, [prompts, vocabulary]; what is cached is not fed again."""
        return self._context.decode(
            [
                Row(prompt[position], position, sequence, position == len(prompt) - 1)
                for prompt, (sequence, shared) in zip(prompts, forks, strict=True)
                for position in range(shared, len(prompt))
            ]
        )

    def _advance(self, streams: list[_Stream], logits: NDArray[np.float32]) -> None:
        """Draw the next token of each stream and see whether it ends there."""
        if not streams:
            return
        decodings = [stream.request.decoding for stream in streams]
        numbers = [stream.numbers[len(stream.generated)] for stream in streams]
        tokens, logprobs = draw(logits, decodings, numbers)
        if not np.isfinite(logprobs).all():
            raise DecodeError("the model computes values that are no numbers; download or export it again")
        for stream, token, logprob in zip(streams, tokens.tolist(), logprobs.tolist(), strict=True):
            stream.generated.append(token)
            stream.logprob += logprob
            stream.text += self._piece(token)
            stream.finish = self._finish(stream, token)

    def _piece(self, token: int) -> bytes:
        if token not in self._pieces:
            self._pieces[token] = self._file.piece(token)
        return self._pieces[token]

    def _finish(self, stream: _Stream, token: int) -> Finish | None:
        if self._file.ends(token):
            return "end"
        stop = stream.request.stop
        if stop is not None and stop.encode() in stream.text:
            return "stop"
        return "length" if len(stream.generated) >= stream.limit else None


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


def _full() -> Completion:
    return Completion("", 0, 0.0, "error", error="the model's context is full")


def _threads(path: Path) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if path.stat().st_size < _SMALL_FILE else cores
