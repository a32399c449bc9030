"""The tools of a real MCP server over stdio: called, refused, given up, and with effects where allowed."""

import sys
import time
from pathlib import Path

import pytest

from rlm_agent import Budget, FakePolicy, Toolbox, create_react
from rlm_agent.models.fake import Reply
from rlm_agent.structure.errors import InputError
from rlm_agent.tools.calling import Limits, acall_all, call_all
from rlm_agent.tools.mcp import mcp_tools
from rlm_agent.tools.protocols import Tool
from rlm_agent.tools.syntax import JsonCalls
from tests.graphs.scripts import ask

SERVER = Path(__file__).with_name("mcp_server.py")
LIMITS = Limits(seconds=20, characters=100)


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notes") / "notes.txt"


@pytest.fixture(scope="module")
def tools(notes: Path) -> dict[str, Tool]:
    connection = {"transport": "stdio", "command": sys.executable, "args": [str(SERVER), str(notes)]}
    return {tool.name: tool for tool in mcp_tools({"tests": connection})}


def test_a_server_says_which_tools_it_has_and_which_have_effects(tools: dict[str, Tool]) -> None:
    assert list(tools) == ["add", "upper", "note", "draw", "fail", "flood", "hang"]
    assert [name for name, tool in tools.items() if not tool.idempotent] == ["note"]
    assert "JSON object with first, second" in tools["add"].description


async def test_calls_are_made_together_and_what_goes_wrong_is_told_of(tools: dict[str, Tool]) -> None:
    calls = [
        (tools["add"], '{"first": 3, "second": 4}'),
        (tools["add"], '{"first": "three"}'),
        (tools["add"], "3"),
        (tools["upper"], "loud"),
        (tools["upper"], '{"text": "loud"}'),
        (tools["draw"], "{}"),
        (tools["fail"], "way"),
        (tools["flood"], "x"),
    ]
    said = await acall_all(calls, LIMITS)
    assert said[0] == "7" and said[3] == said[4] == "LOUD" and said[5] == "(image)"
    assert said[1] == "Error: InputError: $.first: 'three' is not of type 'integer'"
    assert said[2] == "Error: InputError: write the argument as a JSON object with first, second"
    assert "no way" in said[6]
    assert said[7] == "x" * 100 + " … (1000000 characters in all)"


@pytest.mark.slow  # a server is started for each call
def test_plain_callers_are_served_as_well(tools: dict[str, Tool]) -> None:
    assert call_all([(tools["add"], '{"first": 3}')], LIMITS) == ["4"]


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up(tools: dict[str, Tool]) -> None:
    started = time.monotonic()
    assert call_all([(tools["hang"], "x")], Limits(seconds=1)) == ["Error: no reply within 1 seconds"]
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_a_search_calls_them_in_json_on_its_committed_path(tools: dict[str, Tool], notes: Path) -> None:
    chain = [
        'Action: {"name": "add", "arguments": {"first": 40, "second": 2}}',
        'Action: {"name": "note", "arguments": {"text": "42"}}',
        "Finish[42]",
    ]

    def script(question: str, prefix: str) -> list[Reply]:
        return [(chain[prefix.count("Observation")], -1.0)]

    box = Toolbox([tools["add"], tools["note"]], LIMITS, syntax=JsonCalls())
    reasoner = create_react(FakePolicy(script), tools=box, budget=Budget(calls=99))
    reply = reasoner.invoke(ask())["messages"][-1]
    assert reply.content == "42" and notes.read_text() == "42\n"


def test_a_server_that_does_not_answer_is_named_with_a_remedy() -> None:
    connection = {"transport": "stdio", "command": sys.executable, "args": ["-c", "raise SystemExit(1)"]}
    with pytest.raises(InputError, match="the MCP servers broken gave no tools"):
        mcp_tools({"broken": connection})


@pytest.mark.slow
async def test_it_may_be_asked_for_while_a_loop_runs(notes: Path) -> None:
    connection = {"transport": "stdio", "command": sys.executable, "args": [str(SERVER), str(notes)]}
    found = mcp_tools({"tests": connection}, idempotent=False)
    assert len(found) == 7 and not any(tool.idempotent for tool in found)
