"""The messages of a request as LangChain's."""

from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage

from rlm_agent.models.protocols import Message

_ROLES: dict[str, type[SystemMessage | HumanMessage | AIMessage]] = {
    "system": SystemMessage,
    "user": HumanMessage,
    "assistant": AIMessage,
}


def as_langchain(messages: Sequence[Message]) -> list[AnyMessage]:
    """The same turns, in order."""
    return [_ROLES[message["role"]](message["content"]) for message in messages]
