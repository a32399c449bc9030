"""Whatever a tool does, a text of bounded length comes back, in time, and the other calls with it."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from rlm_agent.structure.errors import InputError
from rlm_agent.tools.calling import Limits, acall_all, call_all
from rlm_agent.tools.protocols import Tool
from rlm_agent.tools.wrapping import WrappedTool

SHORT = Limits(seconds=0.2, characters=40)


class Rude(dict[str, int]):
    """A result that does not want to be looked at."""

    def __len__(self) -> int:
        raise RuntimeError


class Tiring(list[int]):
    """A result that nobody looks at for long."""

    def __iter__(self) -> Iterator[int]:
        yield from [0] * 100
        raise RuntimeError


def tool(function: Callable[[str], object]) -> Tool:
    return WrappedTool("tool", "a tool", plain=function)


def raising(error: BaseException) -> Callable[[str], object]:
    def function(argument: str) -> object:
        raise error

    return function


@pytest.fixture(params=["plain", "async"])
def called(request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    """Calls functions of a text, in either colour."""

    def call(*functions: Callable[[str], object], limits: Limits = SHORT) -> list[str]:
        calls = [(tool(function), "x") for function in functions]
        if request.param == "plain":
            return call_all(calls, limits)
        return asyncio.run(acall_all(calls, limits))

    return call


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opens for hanging tools in the end."""
    event = threading.Event()
    yield event
    event.set()


Called = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("  said  ", "said"),
        (24, "24"),
        (1.5, "1.5"),
        (True, "True"),
        (Fraction(1, 3), "1/3"),
        (Decimal("0.10"), "0.10"),
        ({"a": [1, "é"]}, '{"a": [1, "é"]}'),
        (None, "(nothing)"),
        ("", "(nothing)"),
        ("\ud800", "?"),
        (b"bytes", "Error: the tool returned bytes, which is no text"),
        (object, "Error: the tool returned type, which is no text"),
        pytest.param(10**5000, "Error: the tool returned int, which is no text", id="huge"),
        (Rude(), "Error: the tool returned Rude, which is no text"),
    ],
)
def test_what_is_returned_becomes_text(called: Called, result: object, text: str) -> None:
    assert called(lambda argument: result) == [text]


def test_a_result_that_contains_itself_is_told_of(called: Called) -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert called(lambda argument: loop) == ["Error: the tool returned list, which is no text"]


def test_far_too_much_is_cut_off_and_its_length_told(called: Called) -> None:
    limits = Limits(seconds=20, characters=40)
    (text,) = called(lambda argument: "y" * 100_000_000, limits=limits)
    assert text == "y" * 40 + " … (100000000 characters in all)"
    (text,) = called(lambda argument: Tiring([1]), limits=limits)
    assert text == "[" + "0, " * 12 + "0, … (cut off)"
    (text,) = called(lambda argument: list(range(10**6)), limits=limits)
    assert text == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1 … (cut off)"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such town"), "Error: ValueError: no such town"),
        (ValueError(), "Error: ValueError:"),
        (SystemExit(3), "Error: RuntimeError: SystemExit(3)"),
        (KeyboardInterrupt(), "Error: RuntimeError: KeyboardInterrupt()"),
        (StopIteration(4), "Error: RuntimeError: StopIteration(4)"),
        (asyncio.CancelledError(), "Error: RuntimeError: CancelledError()"),
        (MemoryError("z" * 10_000), "Error: MemoryError: " + "z" * 300),
    ],
)
def test_what_is_raised_is_told_of_and_harms_no_other_call(
    called: Called, error: BaseException, text: str
) -> None:
    assert called(str.upper, raising(error), str.upper) == ["X", text, "X"]


async def exits(argument: str) -> object:
    raise SystemExit(3)


async def is_cancelled(argument: str) -> object:
    raise asyncio.CancelledError


async def hangs(argument: str) -> object:
    return await asyncio.Event().wait()


async def disobeys(argument: str) -> object:
    try:
        return await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0.05)
        return "too late"


def test_an_async_tool_that_exits_hangs_or_is_cancelled_harms_no_other_call() -> None:
    tools = [WrappedTool("t", "", awaiting=function) for function in (exits, is_cancelled, hangs, disobeys)]
    texts = asyncio.run(acall_all([(one, "x") for one in (*tools, tool(str.upper))], SHORT))
    assert texts == [
        "Error: RuntimeError: SystemExit(3)",
        "Error: the tool was cancelled",
        "Error: no reply within 0.2 seconds",
        "Error: no reply within 0.2 seconds",
        "X",
    ]


def test_a_tool_that_hangs_is_given_up_and_the_others_reply(called: Called, gate: threading.Event) -> None:
    daemons: list[bool] = []

    def hang(argument: str) -> object:
        daemons.append(threading.current_thread().daemon)
        return gate.wait()

    texts = called(hang, str.upper)
    assert daemons == [True], "it keeps no process alive"
    assert texts == ["Error: no reply within 0.2 seconds", "X"]


def test_calls_are_made_at_the_same_time(called: Called) -> None:
    """Each waits until the other has begun."""
    barrier = threading.Barrier(2)

    def meet(argument: str) -> str:
        barrier.wait(timeout=20)
        return "met"

    assert called(meet, meet, limits=Limits(seconds=20)) == ["met", "met"]


def test_no_call_is_no_wait() -> None:
    assert call_all([], SHORT) == []


def test_a_tool_sees_the_context_of_its_caller(called: Called) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    token = variable.set("set")
    try:
        assert called(lambda argument: variable.get()) == ["set"]
    finally:
        variable.reset(token)


async def test_who_gives_up_waiting_cancels_the_calls() -> None:
    ended = asyncio.Event()

    async def waits(argument: str) -> object:
        try:
            return await asyncio.Event().wait()
        finally:
            ended.set()

    calls = [(WrappedTool("t", "", awaiting=waits), "x")]
    task = asyncio.create_task(acall_all(calls, Limits(seconds=60)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(ended.wait(), 20)


@pytest.mark.parametrize("limits", [(0, 5), (-1, 5), (float("inf"), 5), (float("nan"), 5), (1, 0)])
def test_limits_that_allow_nothing_or_anything_are_refused(limits: tuple[float, int]) -> None:
    with pytest.raises(InputError, match="give finite numbers above 0"):
        Limits(*limits)
