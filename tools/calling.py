"""Calling tools within limits: whatever a tool does, what comes back is a text of bounded length.

A tool that raises, hangs or returns something odd is told of in that text, and harms neither the other calls
nor the search. What hangs is given up: a thread that dies with the process, or a task that is cancelled.
"""

import asyncio
import contextvars
import json
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from numbers import Number

from rlm_agent.structure.errors import InputError
from rlm_agent.tools.protocols import Tool

Calls = Sequence[tuple[Tool, str]]
"""Tools and their arguments."""

ERROR = "Error: "
"""What the text begins with that tells of a failure."""

_MOST_SHOWN = 300
"""How many letters of an exception are shown."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many `seconds` a call may take, and how many `characters` of what comes back are kept.

    Raises `InputError` for numbers that are not above 0 and finite.
    """

    seconds: float = 30.0
    characters: int = 2000

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf or not 0 < self.characters < math.inf:
            raise InputError(f"{self} lets no tool say anything; give finite numbers above 0")


def call_all(calls: Calls, limits: Limits) -> list[str]:
    """What each call comes to; all are made at the same time."""
    begun = [_started(partial(tool.call, argument)) for tool, argument in calls]
    wait(begun, timeout=limits.seconds)
    return [_told(future, limits) for future in begun]


async def acall_all(calls: Calls, limits: Limits) -> list[str]:
    """The same without blocking the event loop."""
    begun = [asyncio.ensure_future(_awaited(tool, argument)) for tool, argument in calls]
    try:
        await asyncio.wait(begun, timeout=limits.seconds)
        return [_told(task, limits) for task in begun]
    finally:
        for task in begun:
            task.cancel()  # nobody waits for it to obey


class Threaded:
    """A tool that may block: where it is awaited, it is called in a thread that can be given up."""

    def call(self, argument: str) -> object:
        """See `Tool`."""
        raise NotImplementedError

    async def acall(self, argument: str) -> object:
        """See `Tool`."""
        return await in_thread(partial(self.call, argument))


async def in_thread(function: Callable[[], object]) -> object:
    """What a function returns that may block, called in a thread that can be given up."""
    return await asyncio.wrap_future(_started(function))


def _started(function: Callable[[], object]) -> Future[object]:
    """A function's future, in a thread of its own that keeps no process alive."""
    future: Future[object] = Future()
    future.set_running_or_notify_cancel()  # whoever gives it up does not cancel it under the thread
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(function)
        except BaseException as error:  # noqa: BLE001  a tool may raise anything, and nobody may wait for ever
            future.set_exception(_ordinary(error))
        else:
            future.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return future


async def _awaited(tool: Tool, argument: str) -> object:
    try:
        return await tool.acall(argument)
    except (SystemExit, KeyboardInterrupt) as error:  # would end the event loop
        raise _ordinary(error) from error


def _ordinary(error: BaseException) -> Exception:
    """An error that a future can hold: neither one that ends a process nor one that ends a generator."""
    odd = isinstance(error, StopIteration) or not isinstance(error, Exception)
    return RuntimeError(repr(error)) if odd else error  # type: ignore[return-value]


def _told(call: "Future[object] | asyncio.Task[object]", limits: Limits) -> str:
    """What a call has come to, as text."""
    if not call.done():
        return f"{ERROR}no reply within {limits.seconds:g} seconds"
    if call.cancelled():
        return f"{ERROR}the tool was cancelled"
    error = call.exception()
    if error is not None:
        return f"{ERROR}{type(error).__name__}: {str(error)[:_MOST_SHOWN]}".strip()
    return _text(call.result(), limits.characters)


def _text(result: object, most: int) -> str:
    """A result as text: what is neither text nor number is written as JSON, if it can be."""
    if isinstance(result, str):
        return _kept(result, most, f"{len(result)} characters in all")
    try:
        if isinstance(result, Number) or result is None:
            text = "" if result is None else str(result)
            return _kept(text, most, f"{len(text)} characters in all")
        return _kept(_json(result, most), most, "cut off")
    except Exception:  # noqa: BLE001  what a tool returns may do anything when it is looked at
        return f"{ERROR}the tool returned {type(result).__name__}, which is no text"


def _json(result: object, most: int) -> str:
    """The beginning of a result as JSON, a little more than so many characters of it."""
    pieces, length = [], 0
    for piece in json.JSONEncoder(ensure_ascii=False).iterencode(result):
        pieces.append(piece)
        length += len(piece)
        if length > most:
            break
    return "".join(pieces)


def _kept(text: str, most: int, cut: str) -> str:
    kept = text[:most].encode(errors="replace").decode().strip()
    return f"{kept}{f' … ({cut})' if len(text) > most else ''}" or "(nothing)"
