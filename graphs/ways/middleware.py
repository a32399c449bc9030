"""Reasoning around the model calls of an agent that `create_agent` has made."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.messages.ai import add_usage

from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.reasoner import create_reasoner, get_strategy
from rlm_agent.graphs.ways.atomic import Atomic, Found
from rlm_agent.structure.errors import InputError, MissingExtraError, UnknownNameError

try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
except ImportError as error:
    raise MissingExtraError("langchain", "agents") from error

Use = Literal["hint", "answer"]

HINT = (
    "Somebody has thought about the user's last message. They may be wrong; check before you rely on it.\n"
    "Their thoughts:\n{reasoning}\nTheir answer: {answer}"
)


def asked_anew(request: ModelRequest[Any]) -> bool:
    """Whether the last message is the user's: once a question, and not again after each call of a tool."""
    return bool(request.messages) and isinstance(request.messages[-1], HumanMessage)


class ReasoningMiddleware(AgentMiddleware[Any, Any, Any]):
    """Lets a reasoner think about a question before the agent's model is called.

    reasoner: what a `create_*` has made, or the name of a strategy, which then reasons with the agent's own
        model; `parameters` are those of `create_reasoner`.
    use: `"hint"` (default) tells the model what was found, in its system prompt, and leaves the reply and its
        tools to it; `"answer"` replies with the answer instead of the model, where one was found and no
        `response_format` is asked for.
    when: which model calls are reasoned about; the default is `asked_anew`.

    The reply holds the reasoning (`additional_kwargs["reasoning_content"]`), and its usage counts what that
    cost. Where nothing is found, or the reasoner refuses the question, the model is called as if nothing had
    been. Raises `UnknownNameError` for a strategy or a `use` that does not exist, and `InputError` for
    parameters of a reasoner that is made already.
    """

    def __init__(
        self,
        reasoner: Reasoner | str = "self_consistency",
        *,
        use: Use = "hint",
        when: Callable[[ModelRequest[Any]], bool] = asked_anew,
        **parameters: Any,
    ) -> None:
        super().__init__()
        if use not in ("hint", "answer"):
            raise UnknownNameError(f"reasoning is of no use as {use!r}; choose 'hint' or 'answer'")
        if isinstance(reasoner, str):
            get_strategy(reasoner)
        elif parameters:
            raise InputError(
                f"{reasoner.name!r} has its parameters already; give {[*parameters]} where it is made"
            )
        self._given, self._use, self._when, self._parameters = reasoner, use, when, parameters
        self._made: dict[int, tuple[BaseChatModel, Atomic]] = {}

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """See `AgentMiddleware`."""
        if not self._when(request):
            return handler(request)
        try:
            found = self._reasoner(request.model).ask(_messages(request), None)
        except InputError:
            return handler(request)
        if self._answers(request, found):
            return ModelResponse(result=[found.reply])
        return (
            handler(request) if found.answer is None else _thoughtful(handler(_hinted(request, found)), found)
        )

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """See `AgentMiddleware`."""
        if not self._when(request):
            return await handler(request)
        try:
            found = await self._reasoner(request.model).aask(_messages(request), None)
        except InputError:
            return await handler(request)
        if self._answers(request, found):
            return ModelResponse(result=[found.reply])
        if found.answer is None:
            return await handler(request)
        return _thoughtful(await handler(_hinted(request, found)), found)

    def _answers(self, request: ModelRequest[Any], found: Found) -> bool:
        return self._use == "answer" and found.answer is not None and request.response_format is None

    def _reasoner(self, model: BaseChatModel) -> Atomic:
        """The reasoner, made once for each model where it reasons with the agent's own."""
        if id(model) not in self._made:
            given = self._given
            reasoner = create_reasoner(given, model, **self._parameters) if isinstance(given, str) else given
            self._made[id(model)] = (
                model,
                Atomic(reasoner),
            )  # the model is kept, so that its id stays its own
        return self._made[id(model)][1]


def _messages(request: ModelRequest[Any]) -> list[BaseMessage]:
    system = [] if request.system_message is None else [request.system_message]
    return [*system, *request.messages]


def _hinted(request: ModelRequest[Any], found: Found) -> ModelRequest[Any]:
    hint = HINT.format(reasoning=found.reasoning, answer=found.answer)
    before = f"{request.system_prompt}\n\n" if request.system_prompt else ""
    return request.override(system_message=SystemMessage(before + hint))


def _thoughtful(response: ModelResponse[Any], found: Found) -> ModelResponse[Any]:
    """The response with what it was told, and with what that cost."""

    def told(message: BaseMessage) -> BaseMessage:
        if not isinstance(message, AIMessage):
            return message
        beside = {**message.additional_kwargs, "reasoning_content": found.reasoning}
        usage = add_usage(message.usage_metadata, found.reply.usage_metadata)
        return message.model_copy(update={"additional_kwargs": beside, "usage_metadata": usage})

    return ModelResponse([told(each) for each in response.result], response.structured_response)
