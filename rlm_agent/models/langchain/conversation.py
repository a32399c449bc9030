"""LangChain's messages, tools and choices of a tool as the chat templates of model files take them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from rlm_agent.models.gguf.chat import Turn
from rlm_agent.models.gguf.toolcalls import Call, Called, Tool
from rlm_agent.structure.errors import InputError

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
_NAMED = {"developer": "system"}
_SILENT = frozenset(
    ("tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use", "reasoning", "thinking")
)
"""Blocks that say nothing to a model: calls stand elsewhere in a message, and thoughts are not repeated."""

Tooling = Mapping[str, Any] | type | Callable[..., Any] | BaseTool
"""What LangChain takes for a tool."""


class Conversation(NamedTuple):
    """Turns, and what the assistant's turn that comes next begins with."""

    turns: tuple[Turn, ...]
    prefix: str = ""


def conversation(messages: Sequence[BaseMessage]) -> Conversation:
    """Messages as turns. A last message of the assistant's without calls is the beginning of its next turn.

    Raises `InputError` for no messages, for roles that no template knows, and for what is not text.
    """
    if not messages:
        raise InputError("the conversation is empty; send at least one message")
    *before, last = messages
    if isinstance(last, AIMessage) and not last.tool_calls:
        if not before:
            raise InputError("there is nothing to answer; send a user's message before the assistant's")
        return Conversation(tuple(_turn(each, before) for each in before), text_of(last))
    return Conversation(tuple(_turn(each, messages) for each in messages))


def text_of(message: BaseMessage) -> str:
    """The text of a message; `InputError` where it holds something else."""
    if isinstance(message.content, str):
        return message.content
    texts: list[str] = []
    for block in message.content:
        kind = "text" if isinstance(block, str) else str(block.get("type"))
        if kind in _SILENT:
            continue
        text = block if isinstance(block, str) else block.get("text")
        if not isinstance(text, str):
            raise InputError(f"this model reads text, and no {kind!r}; leave such blocks out")
        texts.append(text)
    return "\n".join(texts)


def _turn(message: BaseMessage, among: Sequence[BaseMessage]) -> Turn:
    turn: dict[str, Any] = {"role": _role(message), "content": text_of(message)}
    if isinstance(message, AIMessage) and message.tool_calls:
        turn["tool_calls"] = [
            Call(
                id=str(call["id"] or ""),
                type="function",
                function=Called(name=call["name"], arguments=call["args"]),
            )
            for call in message.tool_calls
        ]
    if isinstance(message, ToolMessage):
        turn["tool_call_id"] = message.tool_call_id
        turn["name"] = message.name or _called(message.tool_call_id, among)
    return cast("Turn", turn)


def _role(message: BaseMessage) -> str:
    named = message.role if isinstance(message, ChatMessage) else _ROLES.get(message.type, message.type)
    role = _NAMED.get(named, named)
    if role not in _ROLES.values():
        raise InputError(
            f"there is no role {role!r} in a chat; use messages of {', '.join(sorted(_ROLES.values()))}"
        )
    return role


def _called(id: str, among: Sequence[BaseMessage]) -> str:
    """Which tool was called by `id`."""
    calls = (call for each in among if isinstance(each, AIMessage) for call in each.tool_calls)
    return next((call["name"] for call in calls if call["id"] == id), "tool")


def offered(tools: Sequence[Tooling]) -> list[Tool]:
    """Tools in OpenAI's form."""
    return [cast("Tool", convert_to_openai_tool(tool)) for tool in tools]


def choice_of(tool_choice: Mapping[str, Any] | str | bool | None) -> str:
    """A choice in any of LangChain's forms as "auto", "required", "none" or a name."""
    if isinstance(tool_choice, Mapping):
        function = tool_choice.get("function", tool_choice)
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str):
            raise InputError(f"{dict(tool_choice)!r} chooses no tool; give 'auto', 'any', 'none' or a name")
        return name
    if tool_choice is None or isinstance(tool_choice, bool):
        return "required" if tool_choice else "auto"
    return "required" if tool_choice == "any" else tool_choice
