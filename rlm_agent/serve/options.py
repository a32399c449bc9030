"""What requests of both interfaces have in common, as it stands in their bodies."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, ConfigDict, Field

from rlm_agent.serve.faults import Fault

Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(gt=0, le=1)]
Bound = Annotated[int, Field(gt=0)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Scalar = bool | int | float | str | None

EFFORTS: dict[Effort, float] = {
    "none": 1 / 16,
    "minimal": 1 / 16,
    "low": 1 / 4,
    "medium": 1,
    "high": 4,
    "xhigh": 16,
    "max": 64,
}
"""How many times the usual budget an effort is worth."""

_MESSAGES: dict[str, type[BaseMessage]] = {
    "system": SystemMessage,
    "developer": SystemMessage,
    "user": HumanMessage,
    "assistant": AIMessage,
}


class Body(BaseModel):
    """A body, or a part of one, in which every field is known and of its very type."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Lenient(BaseModel):
    """A part of a body that clients send back as they got it, with fields that say nothing here."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class BudgetFields(Body):
    """Bounds on the search for one choice, as in `Budget`."""

    tokens: Bound | None = None
    calls: Bound | None = None
    nodes: Bound | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None


class SearchFields(Body):
    """What OpenAI's interface has no field for.

    strategy: goes before the one in the name of the model.
    parameters: the strategy's own, over those that the server was started with.
    thoughts: a stream tells each thought as it comes, dead ends too, as reasoning, instead of the steps to
        the answer in the end.
    """

    strategy: Annotated[str, Field(max_length=100)] | None = None
    budget: BudgetFields | None = None
    seed: Seed | None = None
    parameters: Annotated[dict[str, Scalar], Field(max_length=32)] = {}
    thoughts: bool = False


class Part(Lenient):
    """A piece of text within a message."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class Message(Lenient):
    """A turn of the conversation; tools belong to the server, so that no message may call one."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None


class Common(Body):
    """The fields that chats and responses share, and those that change nothing."""

    model: Annotated[str, Field(min_length=1, max_length=300, examples=["mcts:mini"])]
    temperature: Temperature | None = None
    top_p: Share | None = None
    stream: bool | None = None
    rlm: SearchFields = SearchFields()
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    user: str | None = None


def conversation(messages: Sequence[Message], most: int, param: str) -> list[BaseMessage]:
    """The messages for a reasoner; `Fault` for none, for too many, and where the assistant's is the last."""
    if len(messages) > most:
        raise Fault(400, f"a conversation has at most {most} messages here", param=param, code="too_many")
    if not messages:
        raise Fault(400, "there is no message to answer; send one", param=param, code="invalid_value")
    if messages[-1].role == "assistant":
        raise Fault(
            400,
            "the conversation ends with the assistant's turn, which is not gone on with; end with the user's",
            param=param,
            code="invalid_value",
        )
    return [_MESSAGES[message.role](content=_text(message)) for message in messages]


def _text(message: Message) -> str:
    if isinstance(message.content, list):
        return "\n".join(part.text for part in message.content)
    return message.content or ""
