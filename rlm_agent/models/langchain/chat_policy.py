"""Any chat model of LangChain as a policy of searches, and so as a judge, too."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import fields
from queue import SimpleQueue
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ContextThreadPoolExecutor
from pydantic import SecretStr

from rlm_agent.models.continuing import GO_ON, Continuation
from rlm_agent.models.langchain.chat_gguf import ChatGGUF
from rlm_agent.models.langchain.messages import as_langchain
from rlm_agent.models.prompts import Prompts, prompts_of
from rlm_agent.models.protocols import Completion, Decoding, Finish, Piece, Request
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.ids import fingerprint

_LONGEST = ("max_tokens", "max_output_tokens", "max_new_tokens", "num_predict")
"""What classes of chat models call the most tokens of an answer."""

_CUT_OFF = frozenset(("length", "max_tokens", "max_output_tokens", "max_completion_tokens"))
_SHOWN = 300

Tell = Callable[[str], bool]
"""Is told some more of a text; whether nobody wants to hear more."""


class ChatModelPolicy:
    """A policy over a chat model, asked for all requests of a batch at once, up to `concurrency` of them.

    prefill: whether the model goes on with a conversation that ends in its own message; by default a
        `ChatGGUF` alone. Any other is shown what it has said, and asked to go on (`go_on`).
    sends: which fields of the model are set for each request; by default all of `temperature`, `top_p`,
        `top_k`, `min_p`, `seed`, `grammar` and the one for the most tokens that its class has. Leave out what
        the provider refuses. Where the most tokens cannot be set, a budget of tokens can be exceeded by one
        answer a request.

    Providers seldom tell an end by a stop from the end of an answer. So answers are streamed, and a stream is
    left at the first stop. What the model raises makes an error completion, whose message shows no
    secret that the model holds. Tokens are the provider's count, or else an estimate, as
    for a stream that was left. There is no `Trace`, and
    `logprob` is 0 where the provider gives none. Raises `InputError` for special tokens and for grammars that
    the model does not take, and for another `concurrency` than 1 or more.
    """

    def __init__(
        self,
        model: BaseChatModel,
        *,
        prefill: bool | None = None,
        sends: Collection[str] | None = None,
        concurrency: int = 16,
        go_on: str = GO_ON,
    ) -> None:
        if concurrency < 1:
            raise InputError(f"concurrency={concurrency} asks nothing; give at least 1")
        self.model = model
        own = model.policy if isinstance(model, ChatGGUF) else None
        self.task: str | None = None if own is None else own.task
        self.prompts = Prompts() if own is None else prompts_of(own)
        self.decoding = own.decoding if own else _recommended(model)
        self._tells = own is not None
        self._prefill = self._tells if prefill is None else prefill
        known = {*type(model).model_fields}
        self._sends = known if sends is None else known & {*sends}
        self._concurrency = concurrency
        self._go_on = go_on
        told = model._get_ls_params()
        names = (told.get("ls_provider"), told.get("ls_model_name"), own and own.identity)
        settings = fingerprint(self._prefill, sorted(self._sends), go_on)
        self.identity = f"chat:{':'.join(str(name) for name in names if name)}:{settings}"

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; a request that fails comes back with `finish='error'`."""
        for request in requests:
            self._check(request)
        if len(requests) == 1:
            return [self._complete(requests[0])]
        with ContextThreadPoolExecutor(max_workers=self._concurrency) as pool:
            return list(pool.map(self._complete, requests))

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        """See `generate`; the event loop stays free."""
        room = asyncio.Semaphore(self._concurrency)

        async def complete(request: Request) -> Completion:
            async with room:
                return await self._acomplete(request)

        for request in requests:
            self._check(request)
        return list(await asyncio.gather(*map(complete, requests)))

    def stream(self, requests: Sequence[Request]) -> Generator[Piece | list[Completion]]:
        """See `Streaming`."""
        for request in requests:
            self._check(request)
        pieces, left = SimpleQueue[Piece | None](), threading.Event()

        def complete(index: int, request: Request) -> Completion:
            def tell(text: str) -> bool:
                pieces.put(Piece(index, text))
                return left.is_set()

            try:
                return self._complete(request, tell)
            finally:
                pieces.put(None)

        with ContextThreadPoolExecutor(max_workers=self._concurrency) as pool:
            writing = [pool.submit(complete, *numbered) for numbered in enumerate(requests)]
            try:
                for _ in writing:
                    yield from iter(pieces.get, None)
            finally:
                left.set()
                pool.shutdown(wait=False, cancel_futures=True)
        yield [one.result() for one in writing]

    async def astream(self, requests: Sequence[Request]) -> AsyncGenerator[Piece | list[Completion]]:
        """See `stream`; the event loop stays free."""
        for request in requests:
            self._check(request)
        room, pieces = asyncio.Semaphore(self._concurrency), asyncio.Queue[Piece | None]()

        async def complete(index: int, request: Request) -> Completion:
            def tell(text: str) -> bool:
                pieces.put_nowait(Piece(index, text))
                return False

            try:
                async with room:
                    return await self._acomplete(request, tell)
            finally:
                pieces.put_nowait(None)

        writing = [asyncio.create_task(complete(*numbered)) for numbered in enumerate(requests)]
        try:
            for _ in writing:
                while (piece := await pieces.get()) is not None:
                    yield piece
            yield [await one for one in writing]
        finally:
            for one in writing:
                one.cancel()
            await asyncio.gather(*writing, return_exceptions=True)

    def _complete(self, request: Request, tell: Tell = lambda text: False) -> Completion:
        heard, call = _Heard(request, repeats=not self._prefill, tell=tell), self._call(request)
        try:
            with closing(cast("Any", self._set(request).stream(**call))) as chunks:
                for chunk in chunks:
                    if heard.add(chunk):
                        break
            return heard.completion()
        except Exception as error:  # noqa: BLE001  providers raise whatever they like
            return self._failed(error)

    async def _acomplete(self, request: Request, tell: Tell = lambda text: False) -> Completion:
        heard, call = _Heard(request, repeats=not self._prefill, tell=tell), self._call(request)
        try:
            async with aclosing(cast("Any", self._set(request).astream(**call))) as chunks:
                async for chunk in chunks:
                    if heard.add(chunk):
                        break
            return heard.completion()
        except Exception as error:  # noqa: BLE001  providers raise whatever they like
            return self._failed(error)

    def _call(self, request: Request) -> dict[str, Any]:
        """What the model is called with. In traces, a call is attributed to the thought that comes of it.

        LangGraph's `messages` stream leaves it out: what of it is a thought's text, and no judgement and
        nothing beyond a stop, is told by `stream`.
        """
        config: RunnableConfig = {"tags": ["nostream"]}
        if request.thought:
            config["metadata"] = {"rlm_node": request.thought, "rlm_operator": request.operator}
        stop = {"stop": list(request.stop)} if self._tells and request.stop else {}
        return {"input": self._messages(request), "config": config, **stop}

    def _check(self, request: Request) -> None:
        if request.stop_tokens or request.end_tokens:
            raise InputError("a chat model shows no special tokens; end steps with plain text")
        if request.decoding.grammar is not None and "grammar" not in self._sends:
            raise InputError(f"{type(self.model).__name__} takes no grammar; use a model in this process")

    def _set(self, request: Request) -> BaseChatModel:
        """The model with the request's settings: a shallow copy, since calls differ in what they accept."""
        values = {name: getattr(request.decoding, name) for name in _named(Decoding())}
        if not self._tells:  # what changes nothing need not be said, and some providers refuse it
            plain = Decoding()
            values = {name: value for name, value in values.items() if value != getattr(plain, name)}
            values["temperature"] = request.decoding.temperature
        seed = request.seed if self._tells else request.seed % 2**31  # what providers take for an integer
        values |= {"logprobs": True} if self._tells else {}
        values |= {"seed": seed, **dict.fromkeys(_LONGEST, request.max_tokens)}
        values["logit_bias"] = dict(values.get("logit_bias", ()))
        kept = {name: value for name, value in values.items() if name in self._sends}
        return self.model.model_copy(update=kept) if kept else self.model

    def _messages(self, request: Request) -> list[BaseMessage]:
        said: list[BaseMessage] = [*as_langchain(request.messages)]
        if request.prefix:
            said.append(AIMessage(request.prefix))
            said += [] if self._prefill else [HumanMessage(self._go_on)]
        return said

    def _failed(self, error: Exception) -> Completion:
        text = f"{type(error).__name__}: {error}"
        for name in type(self.model).model_fields:
            secret = getattr(self.model, name, None)
            if isinstance(secret, SecretStr) and secret.get_secret_value():
                text = text.replace(secret.get_secret_value(), "…")
        return Completion("", 0, 0.0, "error", error=text[:_SHOWN])


class _Heard:
    """What has come of a request so far; `tell` hears of it as soon as it is sure."""

    def __init__(self, request: Request, *, repeats: bool, tell: Tell) -> None:
        self.text = Continuation(request.prefix, request.stop, repeats)
        self.chunks = 0
        self.last: AIMessage | None = None
        self._tell = tell

    def add(self, message: BaseMessage) -> bool:
        """Take a message or a chunk of one; whether all is there that is wanted."""
        assert isinstance(message, AIMessage)
        joins = isinstance(self.last, AIMessageChunk) and isinstance(message, AIMessageChunk)
        self.last = self.last + message if joins else message  # type: ignore[operator, assignment]
        self.chunks += bool(message.text)
        stopped = self.text.add(str(message.text))
        fresh = self.text.fresh()
        return (bool(fresh) and self._tell(fresh)) or stopped

    def completion(self) -> Completion:
        if fresh := self.text.fresh(final=True):
            self._tell(fresh)
        text, stopped = self.text.cut()
        told = self.last.response_metadata if self.last is not None else {}
        usage = self.last.usage_metadata if self.last is not None else None
        estimated = max(self.chunks, (len(self.text.said) + 3) // 4, 1)
        tokens = usage["output_tokens"] if usage else estimated
        cached = (usage.get("input_token_details") or {}).get("cache_read", 0) if usage else 0
        return Completion(
            text=text,
            tokens=tokens,
            logprob=sum(_logprobs(told)),
            finish=_finish(told, stopped),
            prompt_tokens=usage["input_tokens"] - cached if usage else 0,
            cached_tokens=cached,
        )


def _finish(told: dict[str, Any], stopped: bool) -> Finish:
    if stopped or told.get("stop_sequence") is not None:
        return "stop"
    reasons = (told.get(key) for key in ("finish_reason", "stop_reason", "done_reason"))
    return "length" if any(str(reason).lower() in _CUT_OFF for reason in reasons) else "end"


def _logprobs(told: dict[str, Any]) -> Iterator[float]:
    """The log-probabilities in OpenAI's form, where a provider gives them."""
    logprobs = told.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    for each in content or ():
        yield float(each["logprob"])


def _recommended(model: BaseChatModel) -> Decoding:
    temperature = getattr(model, "temperature", None)
    return Decoding(temperature=float(temperature)) if isinstance(temperature, int | float) else Decoding()


def _named(decoding: Decoding) -> list[str]:
    return [each.name for each in fields(decoding)]
