"""What tracers are shown of the nodes of a search: never its tree.

LangGraph hands a node's whole state to tracers, in every span, unless it is told what to show instead. That
takes time in each superstep, whether there are tracers or not; so runs that none sees are not told.
"""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, closing
from contextvars import ContextVar
from typing import Any

from langchain_core.callbacks import CallbackManager
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.base import BaseTracer
from langgraph.types import Command, TracePolicy

_TEXT = 200

_seen: ContextVar[bool] = ContextVar("rlm_seen_by_tracers", default=True)


def brief_input(state: Any) -> Any:
    """What a trace shows of a node's input: where the search stands, without its tree."""
    if not _seen.get():
        return state
    run = (state.get("run") if isinstance(state, Mapping) else None) or {}
    return {name: run[name] for name in ("turn", "round", "plan", "fresh") if name in run}


def brief_output(update: Any) -> Any:
    """What a trace shows of a node's output: the new thoughts, the values, the usage, and what follows."""
    if not _seen.get():
        return update
    goto = {"goto": update.goto} if isinstance(update, Command) else {}
    written = update.update if isinstance(update, Command) else update
    if not isinstance(written, Mapping):
        return goto
    thoughts, stats = written.get("thoughts") or {}, written.get("stats") or {}
    shown = {
        "thoughts": {id: f"{one['kind']}: {one['text'][:_TEXT]}" for id, one in thoughts.items()},
        "values": {id: one["value"] for id, one in stats.items() if one["value"] is not None},
        "usage": written.get("usage"),
        "answer": written.get("answer"),
    }
    return {**{name: value for name, value in shown.items() if value}, **goto}


TRACE = TracePolicy(process_inputs=brief_input, process_outputs=brief_output)
"""What is shown is the very object where nobody looks; LangGraph then skips what it does for tracers."""


def looked_after(config: RunnableConfig, chunks: Generator[Any]) -> Generator[Any]:
    """The chunks of a run under this configuration, whose nodes know whether tracers see them."""
    seen = _is_seen(config)
    with closing(chunks):
        while True:
            token = _seen.set(seen)  # a generator shares its context with whoever iterates over it
            try:
                chunk = next(chunks)
            except StopIteration:
                return
            finally:
                _seen.reset(token)
            yield chunk


async def alooked_after(config: RunnableConfig, chunks: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    """The same for an async run."""
    seen = _is_seen(config)
    async with aclosing(chunks):
        while True:
            token = _seen.set(seen)
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            finally:
                _seen.reset(token)
            yield chunk


def _is_seen(config: RunnableConfig) -> bool:
    """Whether tracers see a run: those that are given, and those that the environment asks for."""
    manager = CallbackManager.configure(inheritable_callbacks=config.get("callbacks"))
    return any(isinstance(handler, BaseTracer) for handler in manager.handlers)
