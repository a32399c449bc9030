"""LangChain's tools and callables as tools, and what may lie in one box."""

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.tools import Tool as SimpleTool
from langchain_core.tools import tool as langchain_tool

from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.tools.calculator import Calculator
from rlm_agent.tools.calling import Limits, acall_all, call_all
from rlm_agent.tools.toolbox import Toolbox
from rlm_agent.tools.wrapping import as_tool


@langchain_tool
def double(number: int) -> int:
    """Doubles a number."""
    return 2 * number


@langchain_tool
def add(first: int, second: int = 1) -> int:
    """Adds two numbers."""
    return first + second


@langchain_tool
def today() -> str:
    """Tells the day."""
    return "Monday"


@langchain_tool
async def remote(query: str) -> str:
    """Asks elsewhere."""
    await asyncio.sleep(0)
    return f"elsewhere: {query}"


class Custom(BaseTool):
    """A tool by subclass."""

    name: str = "custom"
    description: str = "Shouts."

    def _run(self, text: str) -> str:
        return text.upper()


def shout(text: str) -> str:
    """Says it
    louder."""
    return text.upper()


async def whisper(text: str) -> str:
    """Says it softly."""
    return text.lower()


simple = SimpleTool(name="simple", func=lambda text: text[::-1], description="Reverses.")


@pytest.mark.parametrize(
    ("thing", "argument", "said"),
    [
        (double, "21", "42"),
        (double, '{"number": 21}', "42"),
        (add, '{"first": 3, "second": 4}', "7"),
        (add, '{"first": 3}', "4"),
        (today, "{}", "Monday"),
        (remote, "x", "elsewhere: x"),
        (remote, '{"other": 1}', 'elsewhere: {"other": 1}'),
        (Custom(), "loud", "LOUD"),
        (simple, "abc", "cba"),
        (shout, "abc", "ABC"),
        (whisper, "ABC", "abc"),
        (Calculator(), "1+1", "2"),
    ],
)
def test_a_tool_says_the_same_to_plain_and_async_callers(thing: Any, argument: str, said: str) -> None:
    tool = as_tool(thing)
    assert call_all([(tool, argument)], Limits()) == [said]
    assert asyncio.run(acall_all([(tool, argument)], Limits())) == [said]


@pytest.mark.parametrize(
    ("thing", "argument", "reason"),
    [
        (double, "many", "ValidationError"),
        (add, "3, 4", "write the argument as a JSON object with first, second"),
        (add, "[3, 4]", "write the argument as a JSON object"),
        (add, '{"first": "x"}', "ValidationError"),
        (add, "[" * 100_000, "write the argument as a JSON object"),
        (today, "now", "write the argument as a JSON object with nothing in it"),
    ],
)
def test_arguments_of_the_wrong_kind_are_told_of(thing: Any, argument: str, reason: str) -> None:
    (text,) = call_all([(as_tool(thing), argument)], Limits())
    assert text.startswith("Error: ") and reason in text


def test_a_langchain_tool_that_hangs_keeps_no_event_loop_alive() -> None:
    gate, ended = threading.Event(), threading.Event()

    def hang(text: str) -> str:
        gate.wait(20)
        ended.set()
        return text

    slow = as_tool(StructuredTool.from_function(hang, description="Hangs."))
    (text,) = asyncio.run(acall_all([(slow, "x")], Limits(seconds=0.1)))
    assert text == "Error: no reply within 0.1 seconds" and not ended.is_set()
    gate.set()


def test_effects_are_declared_or_taken_from_the_metadata() -> None:
    harmful = StructuredTool.from_function(shout, metadata={"idempotent": False})
    assert as_tool(double).idempotent and as_tool(shout).idempotent
    assert not as_tool(harmful).idempotent
    assert not as_tool(double, idempotent=False).idempotent
    assert not as_tool(shout, idempotent=False).idempotent
    assert as_tool(harmful, idempotent=True).idempotent


@pytest.mark.parametrize("thing", [None, "search", 3, lambda text: text, Calculator, object()])
def test_what_is_no_tool_is_refused(thing: Any) -> None:
    with pytest.raises(InputError):
        Toolbox([thing])


def test_names_that_no_model_could_call_are_refused() -> None:
    for name in ("two words", "1st", "", "Finish", "a]b", "x" * 65):
        with pytest.raises(InputError, match="no model could call a tool"):
            Toolbox([SimpleTool(name=name, func=str, description="d")])


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two tools are named 'calculator'"):
        Toolbox([Calculator(), Calculator()])


def test_a_box_tells_of_its_tools_a_line_each() -> None:
    box = Toolbox([shout, add])
    assert box.described.splitlines() == [
        "- shout: Says it louder.",
        "- add: Adds two numbers. The argument is a JSON object with first, second.",
    ]
    assert "shout" in box and "shoot" not in box and list(box) == ["shout", "add"] and len(box) == 2
    with pytest.raises(UnknownNameError, match="there is no tool 'shoot'; choose one of shout, add"):
        box["shoot"]


def test_a_box_is_known_by_its_tools_their_effects_and_its_limits() -> None:
    boxes = [
        Toolbox([shout]),
        Toolbox([shout, add]),
        Toolbox([as_tool(shout, idempotent=False)]),
        Toolbox([shout], Limits(seconds=1)),
    ]
    assert len({box.identity for box in boxes}) == 4
    assert Toolbox([shout]).identity == boxes[0].identity
