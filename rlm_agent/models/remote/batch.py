"""All requests of a batch, put to a server side by side."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlm_agent.models.continuing import GO_ON
from rlm_agent.models.protocols import Completion, Message, Piece, Request
from rlm_agent.models.remote.client import Client
from rlm_agent.models.remote.probe import Server
from rlm_agent.models.remote.prompting import LocalPrompting
from rlm_agent.models.remote.streamed import Given, Stream
from rlm_agent.models.remote.wire import Ask, Heard
from rlm_agent.structure.errors import PromptTooLongError, UnansweredError

_SHOWN = 300
Answer = Completion | UnansweredError


@dataclass(frozen=True, slots=True)
class Batch:
    """Some requests to a server; `emit` is told the pieces of their texts, if anybody listens."""

    client: Client
    server: Server
    requests: Sequence[Request]
    emit: Callable[[Piece], None] | None = None

    async def completions(self, *, siblings: bool = False) -> list[Completion]:
        """One completion a request, in order; see `RemotePolicy` for `siblings` and for what is raised.

        Those with one prompt are asked for side by side, and those with the beginning of another's prompt
        before it, so that the server finds in its cache what they share.
        """
        order = sorted(range(len(self.requests)), key=self._place)
        groups = self._siblings(order) if siblings and self.emit is None else [[index] for index in order]
        done: dict[int, Answer] = {}

        async def answer(group: list[int]) -> None:
            done.update(await self._group(group))

        tasks = [asyncio.ensure_future(answer(group)) for group in groups]
        try:
            await asyncio.gather(*tasks)
        finally:  # whoever raises, or cancels, ends all of them
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        failed = [one for one in done.values() if isinstance(one, UnansweredError)]
        if failed and len(failed) == len(done):
            raise failed[0]
        return [_completion(done[index]) for index in range(len(self.requests))]

    def _place(self, index: int) -> tuple[list[str], str]:
        request = self.requests[index]
        return [message["content"] for message in request.messages], request.prefix

    def _siblings(self, order: Sequence[int]) -> list[list[int]]:
        groups: dict[str, list[int]] = {}
        for index in order:
            alike = replace(self.requests[index], seed=0, thought=None, code=None)
            groups.setdefault(repr(alike), []).append(index)
        return list(groups.values())

    async def _group(self, group: Sequence[int]) -> dict[int, Answer]:
        request = self.requests[group[0]]
        try:
            ask = replace(await self.ask(request), samples=len(group))
            if self.emit is not None or (request.stop and not self.server.dialect.tells):
                found = [await self._streamed(ask, index) for index in group]
            else:
                found = await self._whole(ask)
        except UnansweredError as error:
            return dict.fromkeys(group, error)
        except PromptTooLongError as error:
            if not request.prefix:
                raise
            return dict.fromkeys(group, _failed(error))
        answers: dict[int, Answer] = dict(zip(group, found, strict=False))
        for index in group[len(found) :]:  # a server that takes no `n` answers one of them
            answers |= await self._group([index])
        return answers

    async def ask(self, request: Request) -> Ask:
        """How a request is put to this server: as a prompt, or as a conversation."""
        server, logprobs = self.server, 0 if self.server.logprobs else None
        if server.prompting is not None:
            special = (*request.stop_tokens, *request.end_tokens)
            tokens = await server.prompting.prompt(request.messages, request.prefix, special)
            prompt: tuple[int, ...] | str = tokens
            if not server.dialect.tokens:
                assert isinstance(server.prompting, LocalPrompting)
                prompt = server.prompting.text(tokens)
            return Ask(request, server.model, prompt=prompt, logprobs=logprobs)
        said, partial = list(request.messages), bool(request.prefix) and server.dialect.continues
        if request.prefix:
            said.append(Message(role="assistant", content=request.prefix))
            said += [] if partial else [Message(role="user", content=GO_ON)]
        return Ask(request, server.model, messages=tuple(said), partial=partial, logprobs=logprobs)

    async def _whole(self, ask: Ask) -> list[Completion]:
        path, body = self.server.dialect.body(ask)
        return await self.client.post(path, body, lambda said: self._read(ask, said))

    async def _streamed(self, ask: Ask, index: int) -> Completion:
        ask = replace(ask, request=self.requests[index], samples=1, stream=True)
        path, body = self.server.dialect.body(ask)
        given = Given(index, self.emit)
        return await self.client.stream(path, body, lambda: Stream(self.server.dialect, ask, given))

    def _read(self, ask: Ask, said: Any) -> list[Completion]:
        """The completions in an answer; the first of several samples pays for the prompt."""
        parts = self.server.dialect.parts(said, ask)[: ask.samples]
        read = []
        for part in parts:
            heard = Heard.of(ask)
            heard.take(part)
            share = part.usage.generated // len(parts) if part.usage is not None else 0
            own = None if len(parts) == 1 else len(part.logprobs) or share
            read.append(heard.completion(ask.request, own))
        if not read:
            raise ValueError("no choice")
        return [read[0], *(replace(one, prompt_tokens=0, cached_tokens=0) for one in read[1:])]


def _completion(answer: Answer) -> Completion:
    return answer if isinstance(answer, Completion) else _failed(answer)


def _failed(error: Exception) -> Completion:
    return Completion("", 0, 0.0, "error", error=str(error)[:_SHOWN])
