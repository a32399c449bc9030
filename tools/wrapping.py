"""Callables and LangChain's tools as tools, and tools as LangChain's."""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langchain_core.tools import Tool as SimpleTool
from pydantic import create_model

from rlm_agent.structure.errors import InputError, MissingExtraError
from rlm_agent.tools.calling import ERROR, Limits, acall_all, call_all, in_thread
from rlm_agent.tools.protocols import ONE_TEXT, Tool, parameters_of
from rlm_agent.tools.syntax import one_text

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
    parameters: Mapping[str, Any] = field(default_factory=lambda: ONE_TEXT)

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
    text is a JSON object of them, which has to fit the tool's schema. `idempotent=False` declares that calls
    have effects; the `metadata` of a LangChain tool may say so as well, `{"idempotent": False}`, and so may
    that of an MCP tool, `{"readOnlyHint": False}`. Raises `InputError` for anything else, and
    `MissingExtraError` for a tool whose schema nobody here can check.
    """
    if isinstance(thing, BaseTool):
        hints = thing.metadata or {}
        harmless = hints.get("idempotent", hints.get("readOnlyHint", True))
        return _of_langchain(thing, bool(harmless) if idempotent is None else idempotent)
    name = getattr(thing, "__name__", "")
    if isinstance(thing, Tool) and not isinstance(thing, type):
        return thing
    if not callable(thing) or not name or isinstance(thing, type):
        raise InputError(
            f"{type(thing).__name__} is no tool; give a LangChain tool, a named function or a Tool"
        )
    coloured = {"awaiting" if inspect.iscoroutinefunction(thing) else "plain": thing}
    return WrappedTool(name, inspect.getdoc(thing) or name, **coloured, idempotent=idempotent is not False)


def as_langchain(tool: Tool, limits: Limits | None = None) -> BaseTool:
    """A tool as LangChain's, for agents that are no search; what goes wrong is a `ToolException`, handled."""
    bounds, schema = limits or Limits(), parameters_of(tool)
    only = one_text(schema)

    def argument(given: dict[str, Any]) -> str:
        return given[only] if only is not None else json.dumps(given, ensure_ascii=False, sort_keys=True)

    def run(**given: Any) -> str:
        return _raised(call_all([(tool, argument(given))], bounds)[0])

    async def arun(**given: Any) -> str:
        return _raised((await acall_all([(tool, argument(given))], bounds))[0])

    fields: dict[str, Any] = {only or "": (str, ...)}
    return StructuredTool(
        name=tool.name,
        description=tool.description,
        args_schema=create_model(tool.name, **fields) if only is not None else dict(schema),
        func=run,
        coroutine=arun,
        handle_tool_error=True,
        metadata={"idempotent": tool.idempotent},
    )


def _raised(text: str) -> str:
    if text.startswith(ERROR):
        raise ToolException(text)
    return text


def _of_langchain(tool: BaseTool, idempotent: bool) -> Tool:
    """Its own async side is used only where there is one, since LangChain's threads cannot be given up."""
    kind = type(tool)
    awaits = getattr(tool, "coroutine", None) is not None or kind._arun not in _OWN_ARUN
    blocks = getattr(tool, "func", None) is not None or kind._run not in _OWN_RUN
    schema = _schema(tool)
    checked = _checker(schema) if isinstance(tool.args_schema, dict) else None
    arguments = partial(_arguments, schema, checked)

    async def awaiting(argument: str) -> object:
        return _plain(await tool.ainvoke(arguments(argument)))

    return WrappedTool(
        tool.name,
        f"{tool.description} {_usage(schema)}".strip(),
        plain=(lambda argument: _plain(tool.invoke(arguments(argument)))) if blocks else None,
        awaiting=awaiting if awaits else None,
        idempotent=idempotent,
        parameters=schema,
    )


def _schema(tool: BaseTool) -> dict[str, Any]:
    """What a tool takes, as JSON schema."""
    called: Any = tool.tool_call_schema
    if isinstance(called, dict):
        return called
    schema: dict[str, Any] = (getattr(called, "model_json_schema", None) or called.schema)()
    if set(_names(schema)) == set(tool.args):
        return schema
    return {"type": "object", "properties": tool.args, "required": list(tool.args)}


def _names(schema: Mapping[str, Any]) -> list[str]:
    return list(schema.get("properties", {}))


def _usage(schema: Mapping[str, Any]) -> str:
    names = _names(schema)
    return "" if len(names) == 1 else f"The argument is a JSON object with {', '.join(names) or 'nothing'}."


def _arguments(
    schema: Mapping[str, Any], check: Callable[[dict[str, Any]], None] | None, argument: str
) -> dict[str, Any]:
    """What LangChain is to call a tool with; `InputError` where the text is no JSON object and has to be."""
    names = _names(schema)
    try:
        read = json.loads(argument)
    except (ValueError, RecursionError):
        read = None
    if not (isinstance(read, dict) and (len(names) != 1 or set(read) == set(names))):
        if len(names) != 1:
            raise InputError(
                f"write the argument as a JSON object with {', '.join(names) or 'nothing in it'}"
            )
        read = {names[0]: argument}
    if check is not None:
        check(read)
    return read


def _checker(schema: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """What refuses arguments that do not fit a schema, which LangChain only does for its own kind."""
    try:
        from jsonschema.exceptions import best_match
        from jsonschema.validators import validator_for
        from referencing import Registry
    except ImportError as error:
        raise MissingExtraError("jsonschema", "mcp") from error
    validator = validator_for(schema)(schema, registry=Registry())  # which fetches nothing

    def check(given: dict[str, Any]) -> None:
        fault = best_match(validator.iter_errors(given))
        if fault is not None:
            raise InputError(f"{fault.json_path}: {fault.message}")

    return check


def _plain(result: object) -> object:
    """A result, its texts alone where it is a list of LangChain's content blocks."""
    if not isinstance(result, list) or not result or not all(map(_is_block, result)):
        return result
    return "\n".join(str(one["text"]) if one["type"] == "text" else f"({one['type']})" for one in result)


def _is_block(one: object) -> bool:
    return isinstance(one, dict) and (one.get("type") != "text" or "text" in one) and "type" in one
