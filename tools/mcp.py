"""The tools of MCP servers, by LangChain's adapters."""

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from rlm_agent.structure.errors import InputError, MissingExtraError
from rlm_agent.tools.protocols import Tool
from rlm_agent.tools.wrapping import as_tool


def mcp_tools(connections: Mapping[str, Mapping[str, Any]], *, idempotent: bool | None = None) -> list[Tool]:
    """The tools of some MCP servers, for a strategy to use.

    connections: by name, as langchain-mcp-adapters takes them, such as
        `{"files": {"transport": "stdio", "command": "python", "args": ["server.py"]}}`.
    idempotent: whether calls do no harm; by default a tool has effects unless its server hints that it only
        reads. A hint is the server's word: say False for servers that nobody trusts.

    A server over stdio is started for each call and stopped after it. What needs a session of its own is
    opened by `langchain_mcp_adapters.tools.load_mcp_tools`, whose tools can be used as well. May be called
    while an event loop runs. Raises `InputError` where a server does not answer, and `MissingExtraError`
    without langchain-mcp-adapters.
    """
    try:
        from langchain_mcp_adapters.client import MultiServerMCPClient
    except ImportError as error:
        raise MissingExtraError("langchain-mcp-adapters", "mcp") from error
    client = MultiServerMCPClient({name: dict(one) for name, one in connections.items()})  # type: ignore[misc]
    try:
        found = _run_apart(client.get_tools)
    except Exception as error:
        raise InputError(
            f"the MCP servers {', '.join(connections)} gave no tools ({_cause(error)}); check how they are "
            "started"
        ) from error
    return [as_tool(tool, idempotent=_reads(tool) if idempotent is None else idempotent) for tool in found]


def _reads(tool: Any) -> bool:
    return bool((tool.metadata or {}).get("readOnlyHint", False))


def _run_apart(function: Any) -> list[Any]:
    """What an async function returns, in a loop and a thread of its own."""
    future: Future[list[Any]] = Future()

    def run() -> None:
        try:
            future.set_result(asyncio.run(function()))
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result()


def _cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
