"""Callables and LangChain's tools as tools."""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.tools import Tool as SimpleTool

from rlm_agent.structure.errors import InputError
from rlm_agent.tools.calling import in_thread
from rlm_agent.tools.protocols import Tool

Wrappable = Tool | BaseTool | Callable[[str], Any]
"""What `as_tool` makes a tool of."""

_OWN_ARUN = (BaseTool._arun, StructuredTool._arun, SimpleTool._arun)
_OWN_RUN = (BaseTool._run, StructuredTool._run, SimpleTool._run)


@dataclass(frozen=True, slots=True)
class WrappedTool:
    """A tool made of one function of a text, of an async one, or of both.

    Where one colour is missing, the other serves it: a plain function in a thread of its own, an async one in
    a loop of its own.
    """

    name: str
    description: str
    plain: Callable[[str], object] | None = None
    awaiting: Callable[[str], Awaitable[object]] | None = None
    idempotent: bool = True

    def call(self, argument: str) -> object:
        """See `Tool`."""
        if self.plain is not None:
            return self.plain(argument)
        return asyncio.run(self.acall(argument))

    async def acall(self, argument: str) -> object:
        """See `Tool`."""
        if self.awaiting is not None:
            return await self.awaiting(argument)
        return await in_thread(lambda: self.call(argument))


def as_tool(thing: Any, *, idempotent: bool | None = None) -> Tool:
    """A `Tool` of a tool, of a LangChain tool, or of a plain or async callable of one text.

    A callable's name and docstring are what a model reads. For a LangChain tool with several arguments, the
    text is a JSON object of them. `idempotent=False` declares that calls have effects; the `metadata` of a
    LangChain tool may say so as well, `{"idempotent": False}`. Raises `InputError` for anything else.
    """
    if isinstance(thing, BaseTool):
        harmless = (thing.metadata or {}).get("idempotent", True) if idempotent is None else idempotent
        return _of_langchain(thing, bool(harmless))
    name = getattr(thing, "__name__", "")
    if isinstance(thing, Tool) and not isinstance(thing, type):
        return thing
    if not callable(thing) or not name or isinstance(thing, type):
        raise InputError(
            f"{type(thing).__name__} is no tool; give a LangChain tool, a named function or a Tool"
        )
    coloured = {"awaiting" if inspect.iscoroutinefunction(thing) else "plain": thing}
    return WrappedTool(name, inspect.getdoc(thing) or name, **coloured, idempotent=idempotent is not False)


def _of_langchain(tool: BaseTool, idempotent: bool) -> Tool:
    """Its own async side is used only where there is one, since LangChain's threads cannot be given up."""
    kind = type(tool)
    awaits = getattr(tool, "coroutine", None) is not None or kind._arun not in _OWN_ARUN
    blocks = getattr(tool, "func", None) is not None or kind._run not in _OWN_RUN

    async def awaiting(argument: str) -> object:
        return await tool.ainvoke(_arguments(tool, argument))

    return WrappedTool(
        tool.name,
        f"{tool.description} {_usage(tool)}".strip(),
        plain=(lambda argument: tool.invoke(_arguments(tool, argument))) if blocks else None,
        awaiting=awaiting if awaits else None,
        idempotent=idempotent,
    )


def _usage(tool: BaseTool) -> str:
    names = list(tool.args)
    return "" if len(names) == 1 else f"The argument is a JSON object with {', '.join(names) or 'nothing'}."


def _arguments(tool: BaseTool, argument: str) -> dict[str, Any]:
    """What LangChain is to call a tool with; `InputError` where the text is no JSON object and has to be."""
    names = list(tool.args)
    try:
        read = json.loads(argument)
    except (ValueError, RecursionError):
        read = None
    if isinstance(read, dict) and (len(names) != 1 or set(read) == set(names)):
        return read
    if len(names) != 1:
        raise InputError(f"write the argument as a JSON object with {', '.join(names) or 'nothing in it'}")
    return {names[0]: argument}
