"""How calls are written: one protocol, in lines of text and in JSON, read whatever a model makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.tools import tool

from rlm_agent import Calculator, Toolbox
from rlm_agent.tools.actions import Call, Unreadable
from rlm_agent.tools.python import Python
from rlm_agent.tools.syntax import REACT, Asked, JsonCalls
from rlm_agent.tools.tables import Tables


@tool
def add(first: int, second: int = 1) -> int:
    """Adds two numbers."""
    return first + second


HERMES = JsonCalls("<tool_call>", "</tool_call>")
BOX = Toolbox([Calculator(), add, Python()], syntax=JsonCalls())
IN_TAGS = Toolbox([Calculator(), add, Python()], syntax=HERMES)
SUM = '{"name": "calculator", "arguments": {"expression": "1+1"}}'
ADD = '{"name": "add", "arguments": {"second": 2, "first": 1}}'
TWO = Call("calculator", "1+1"), Call("add", '{"first": 1, "second": 2}')


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (f"Action: {SUM}", TWO[:1]),
        (f"I add.\nAction: {ADD}", TWO[1:]),
        (f"Action: {SUM}; {ADD}", TWO),
        (f"Action: {SUM} {ADD}", TWO),
        (f"Action: [{SUM}, {ADD}]", TWO),
        ('Action: {"name": "python", "arguments": {"code": "x = 1\\nx"}}', (Call("python", "x = 1\nx"),)),
        ('Action: {"name": "add"}', (Call("add", "{}"),)),
        ("Action: calculator[1+1]", TWO[:1]),
        ("so <<1+1=", TWO[:1]),
        ("Action: Finish[4]", ()),
        ("Finish[4]", ()),
        ("no call", ()),
        (f"no call {SUM}", ()),
        ("", ()),
    ],
)
def test_calls_in_json_are_read_with_their_arguments(text: str, asked: Asked) -> None:
    assert BOX.asked(text) == asked


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (f"<tool_call>{SUM}</tool_call>", TWO[:1]),
        (f"I add. <tool_call>\n{SUM}\n</tool_call>\n<tool_call>\n{ADD}\n</tool_call>", TWO),
        (f"<tool_call>{SUM}", TWO[:1]),
        (f"Action: {SUM}", ()),
        ("Action: calculator[1+1]", ()),
    ],
)
def test_calls_in_tags_are_read_alike(text: str, asked: Asked) -> None:
    assert IN_TAGS.asked(text) == asked


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('Action: {"name": "calculator"', "the call cannot be read (Expecting"),
        (f"Action: {SUM} and then some", "the call cannot be read (Expecting value"),
        ('Action: {"name": "serach", "arguments": {}}', "there is no tool 'serach'"),
        ('Action: {"nome": "add"}', 'a call is {"name": …'),
        ("Action: [1]", 'a call is {"name": …'),
        ("Action: []", "there are 0 calls and not 1 to 16"),
        ("Action: " + " ".join([SUM] * 17), "there are 17 calls and not 1 to 16"),
        ('Action: {"name": "add", "arguments": "1, 2"}', "'arguments' of add is no object"),
        (
            'Action: {"name": "calculator", "arguments": {"expression": 2}}',
            "takes 'expression' alone, a text",
        ),
        ('Action: {"name": "calculator", "arguments": {}}', "takes 'expression' alone, a text"),
        (
            'Action: {"name": "calculator", "arguments": {"expression": "1", "x": 2}}',
            "takes 'expression' alone, a text",
        ),
        ('Action: {"name": "add", "arguments": {"first": NaN}}', "NaN is no JSON"),
        ("Action: " + "[" * 100_000, "the call cannot be read"),
        ("Action: " + "{" * 200_000, "it is too long"),
        ("Action: serach[x]", "there is no tool 'serach'"),
    ],
)
def test_what_is_meant_as_a_call_and_is_none_says_why(text: str, reason: str) -> None:
    (found,) = BOX.asked(text)
    assert isinstance(found, Unreadable) and reason in found.reason and len(found.reason) < 300


def test_one_bad_call_among_others_harms_none() -> None:
    good, bad = BOX.asked(f'Action: {SUM} {{"name": "x"}}')
    assert good == TWO[0] and bad == Unreadable("there is no tool 'x'")


@given(st.text(alphabet='Action: <tool_call>/{}[]"name,argumentsx1\\\n;', max_size=200))
def test_no_text_raises(text: str) -> None:
    for box in (BOX, IN_TAGS, Toolbox([Calculator()])):
        box.asked(text)


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_arguments_come_back_as_they_were_written_and_in_one_order(arguments: dict[str, Any]) -> None:
    (call,) = BOX.asked(f"Action: {json.dumps({'name': 'add', 'arguments': arguments})}")
    assert isinstance(call, Call) and json.loads(call.argument) == arguments
    turned = dict(reversed(arguments.items()))
    assert BOX.asked(f"Action: {json.dumps({'name': 'add', 'arguments': turned})}") == (call,)


def test_a_box_tells_of_its_tools_in_its_syntax_and_is_known_by_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x\n1\n")
    tools: list[Any] = [Calculator(), add, Tables(tmp_path / "t.csv")]
    plain, told = Toolbox(tools), Toolbox(tools, syntax=JsonCalls())
    assert plain.described.startswith("- calculator: Computes") and plain.written is REACT
    lines = [json.loads(line) for line in told.described.splitlines()]
    assert [line["name"] for line in lines] == ["calculator", "add", "table"]
    assert list(lines[1]["parameters"]["properties"]) == ["first", "second"]
    assert len({plain.identity, told.identity, Toolbox(tools, syntax=HERMES).identity}) == 3
    assert "{tools}" in HERMES.told and "<tool_call>" in HERMES.told and "Finish[answer]" in HERMES.told
