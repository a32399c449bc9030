"""What a model's text says of an action, and what is no action though it looks like one."""

import pytest

from rlm_agent.tools.actions import Call, Unreadable, claims_observation, read_action, read_finish

NAMES = ("search", "look-up_2", "calculator")


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("Action: search[Paris]", Call("search", "Paris")),
        ("  action 3: look-up_2 [ two words ]  ", Call("look-up_2", "two words")),
        ("Action: search[a [nested] thing]", Call("search", "a [nested] thing")),
        ("Action: search[]", Call("search", "")),
        ("Thought: I should look\nAction: search[x]\n", Call("search", "x")),
        ("So.\nAction: search[x = [1,\n  2]\n\nx]\n", Call("search", "x = [1,\n  2]\n\nx")),
        ("I take Action: search[x,\nAction: search[x,\ny]", Call("search", "x,\ny")),
        ("She sold <<48/2=", Call("calculator", "48/2")),
        ("so <<1+1=2>>2 and << (3 + 4) * 2 =", Call("calculator", "(3 + 4) * 2")),
    ],
)
def test_a_call_is_read_with_its_tool_and_argument(text: str, call: Call) -> None:
    assert read_action(text, NAMES) == call


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "I take action: none",
        "an Action: search[x]", "search[x]", "Finish[4]", "Action: Finish[4]",
        "<<48/2=24>>24", "<<48/2", "a = b", "<<=", "x <<1=>>",
    ],
)  # fmt: skip
def test_what_asks_for_nothing_is_no_action(text: str) -> None:
    assert read_action(text, NAMES) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Action: serach[x]", "there is no tool 'serach'"),
        ("Action: SEARCH[x]", "there is no tool 'SEARCH'"),
        ("Action: search", "'search' is no action; write Action: name[argument]"),
        ("Action: search[x", "'search[x' is no action"),
        ("Action: search(x)", "'search(x)' is no action"),
        ("Action: 2x[x]", "'2x[x]' is no action"),
        ("Action:", "'' is no action"),
        ("Action: search[x] and then some", "is no action"),
        ("Action: search[x]\nthen more", "write nothing behind it"),
        ("Action: search[x]\nthen [more]", "write nothing behind it"),
        ("Action: search[x\nAction: search[y]", "write nothing behind it"),
        ("Action: search[x\nthen] more", "is no action"),
        ("Action: search[x]\nAction: search[y]", "write nothing behind it"),
        ("Action: __import__('os').system('ls')", "is no action"),
    ],
)
def test_what_is_meant_as_a_call_and_is_none_says_why(text: str, reason: str) -> None:
    found = read_action(text, NAMES)
    assert isinstance(found, Unreadable)
    assert reason in found.reason


def test_an_inline_call_is_text_where_there_is_no_calculator() -> None:
    assert read_action("She sold <<48/2=", ("search",)) is None


def test_a_reason_does_not_grow_with_the_text() -> None:
    found = read_action("Action: " + "x" * 100_000, NAMES)
    assert isinstance(found, Unreadable)
    assert len(found.reason) < 200


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Finish[24]", "24"),
        ("Action: Finish[ the [old] one ]", "the [old] one"),
        ("Thought: done\naction 7: finish[x]", "x"),
        ("Finish[]", ""),
        ("Finish[24] I think", None),
        ("Finish[24]\nmore", None),
        ("Finish", None),
        ("To finish[24]", None),
        ("Finished[24]", None),
        ("", None),
    ],
)
def test_a_chain_is_finished_by_its_last_line_alone(text: str, answer: str | None) -> None:
    assert read_finish(text) == answer


def test_only_a_line_of_its_own_claims_to_be_an_observation() -> None:
    assert claims_observation("Observation: 4")
    assert claims_observation("Action: search[x]\n  observation: 4")
    assert not claims_observation("my observation: 4")
    assert not claims_observation("Observations are useful")
