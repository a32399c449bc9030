"""What is stored and cannot be gone on with is refused, by a clear error; the thread stays readable."""

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.machine.state import LAYOUT
from rlm_agent.structure.consistency import check_graph
from rlm_agent.structure.errors import BudgetError, CheckpointError, ProblemError, RlmError
from tests.graphs.scripts import CASES, SINGLE, ask, found, reason, thread

EMPTY: dict[str, Any] = {"messages": []}


def finished(case: str, calls: int = 20) -> Reasoner:
    """A reasoner whose thread "1" holds a finished search."""
    reasoner = reason(case, checkpointer=InMemorySaver(), budget=Budget(calls=calls))
    reasoner.invoke(ask(), thread())
    return reasoner


def refused(reasoner: Reasoner, input: Any, error: type[RlmError], said: str) -> None:
    """The run is refused, more than once, and changes nothing that was stored."""
    before = reasoner.get_state(thread()).values
    for _ in range(2):
        with pytest.raises(error, match=said):
            reasoner.invoke(input, thread())
    after = reasoner.get_state(thread()).values
    assert {**after, "messages": 0, "terms": 0} == {**before, "messages": 0, "terms": 0}
    assert list(reasoner.get_state_history(thread()))


@pytest.mark.parametrize("version", [0, LAYOUT + 1, "1", None])
@pytest.mark.parametrize("case", ["mcts", "graph_of_thoughts"])
def test_the_state_of_another_version_is_refused(case: str, version: Any) -> None:
    reasoner = finished(case)
    run = reasoner.get_state(thread()).values["run"]
    reasoner.update_state(thread(), {"run": {**run, "version": version}})
    refused(reasoner, EMPTY, CheckpointError, "use the version of before, or begin a new thread")
    refused(reasoner, ask("another?"), CheckpointError, "stored in layout")
    assert reasoner.invoke(ask(), thread("2"))["usage"]["nodes"] > 0


@pytest.mark.parametrize(
    ("case", "after", "before"),
    [
        ("mcts", "generate", "evaluate"),
        ("beam_search", "generate", "evaluate"),
        ("llama_berry", "refine", "evaluate"),
        ("react", "generate", "evaluate"),
        ("graph_of_thoughts", "one", "weigh_one"),
    ],
)
def test_a_search_that_goes_on_in_the_middle_looks_at_its_state_as_well(
    case: str, after: str, before: str
) -> None:
    reasoner = reason(case, checkpointer=InMemorySaver())
    reasoner.invoke(ask(), thread(), interrupt_before=[before])
    values = reasoner.get_state(thread()).values
    root = values["run"]["root"]
    stats = {root: {**values["stats"][root], "children": 40}}
    reasoner.update_state(thread(), {"stats": stats}, as_node=after)
    assert before in reasoner.get_state(thread()).next
    refused(reasoner, None, CheckpointError, f"{root} counts 40 children and has")


EDITS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "an orphan": (
        lambda v: {
            "thoughts": {"new": {**v["thoughts"][_last(v)], "parent": "gone"}},
            "stats": {"new": v["stats"][_last(v)]},
        },
        "the parent gone of new is missing",
    ),
    "statistics alone": (lambda v: {"stats": {"new": v["stats"][_last(v)]}}, "statistics and is no thought"),
    "no thought": (lambda v: {"thoughts": {_last(v): "a text"}}, "'a text' is no Thought"),
    "not JSON": (
        lambda v: {"thoughts": {_last(v): {**v["thoughts"][_last(v)], "text": b"x"}}},
        "text: b'x' is no str",
    ),
    "no run": (lambda v: {"run": {"best": ["x"]}}, "the stored run cannot be read: best"),
    "no usage": (lambda v: {"usage": {"nodes": "many"}}, "the stored usage cannot be read: nodes: 'many'"),
}


def _last(values: dict[str, Any]) -> str:
    """The id of the youngest thought."""
    return str(list(values["thoughts"])[-1])


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_that_leaves_an_inconsistent_tree_is_refused(edit: str) -> None:
    reasoner = finished("x1")
    good = reasoner.get_state(thread())
    make, said = EDITS[edit]
    reasoner.update_state(thread(), make(good.values))
    refused(reasoner, EMPTY, CheckpointError, said)
    refused(reasoner, ask("another?"), CheckpointError, said)
    # As the message says: the checkpoint before the edit is as good as ever.
    result = reasoner.invoke({"messages": [HumanMessage("another?")]}, good.config)
    assert result["usage"]["nodes"] > 0


@pytest.mark.parametrize("nonsense", ["a text", 7, ["a"]])
def test_what_is_no_mapping_does_not_even_get_into_the_tree(nonsense: Any) -> None:
    reasoner = finished("x1")
    before = reasoner.get_state(thread()).values
    with pytest.raises((TypeError, ValueError)):
        reasoner.update_state(thread(), {"thoughts": nonsense})
    assert reasoner.get_state(thread()).values == before
    reasoner.invoke(EMPTY, thread())


def test_a_good_edit_is_gone_on_with() -> None:
    """A thought that is closed by hand gets no more children."""
    reasoner = reason("best_first", checkpointer=InMemorySaver(), budget=Budget(calls=20))
    reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    root = values["run"]["root"]
    closed = {root: {**values["stats"][root], "closed": True}}
    reasoner.update_state(thread(), {"stats": closed})
    terms = {"terms": {"budget": {"calls": 60}}}
    reasoner.invoke({**EMPTY, **terms}, thread())
    after = reasoner.get_state(thread()).values
    assert after["stats"][root]["children"] == values["stats"][root]["children"]
    assert len(after["thoughts"]) > len(values["thoughts"])


def test_a_large_tree_is_looked_at_once_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def look(*args: Any) -> None:
        looked.append(1)
        check_graph(*args)

    monkeypatch.setattr("rlm_agent.graphs.machine.restoring.check_graph", look)
    reasoner = finished("x1")
    reasoner.invoke({**EMPTY, "terms": {"budget": {"calls": 60}}}, thread())
    reasoner.invoke(ask("another?"), thread())
    assert len(looked) == 3


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("limit", [15, 30])
def test_too_small_a_recursion_limit_ends_with_the_best_so_far(case: str, limit: int) -> None:
    """All stops with a reply, and the same search goes on to the same end under a larger limit."""
    reasoner = reason(case, checkpointer=InMemorySaver())
    result = reasoner.invoke(ask(), thread(limit=limit))
    run = reasoner.get_state(thread()).values["run"]
    assert run["stopped"] is not None and result["messages"][-1].type == "ai"
    if run["stopped"] == "recursion limit":
        before = reasoner.get_state(thread()).values["thoughts"]
        reasoner.invoke(EMPTY, thread())
        after = reasoner.get_state(thread()).values
        assert {id: after["thoughts"][id] for id in before} == before
        assert after["run"]["stopped"] != "recursion limit"
    elif case not in (*SINGLE, "graph_of_thoughts"):
        assert found(reasoner.get_state(thread()).values) == found(_unlimited(case))


def _unlimited(case: str) -> dict[str, Any]:
    reasoner = reason(case, checkpointer=InMemorySaver())
    reasoner.invoke(ask(), thread())
    values: dict[str, Any] = reasoner.get_state(thread()).values
    return values


def test_a_conversation_without_a_question_is_refused_and_stays_readable() -> None:
    reasoner = reason("x1", checkpointer=InMemorySaver())
    with pytest.raises(ProblemError, match="no human message"):
        reasoner.invoke({"messages": [("ai", "hello")]}, thread())
    assert reasoner.get_state(thread()).values["messages"][0].content == "hello"
    assert reasoner.invoke(ask(), thread())["usage"]["nodes"] > 0


def test_a_budget_that_is_none_is_refused_and_forgotten() -> None:
    reasoner = finished("x1")
    with pytest.raises(BudgetError):
        reasoner.invoke({**EMPTY, "terms": {"budget": {"calls": -1}}}, thread())
    reasoner.invoke({**EMPTY, "terms": {"budget": {"calls": 40}}}, thread())
