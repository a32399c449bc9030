"""Every strategy by its name; what is refused, drawn and told, and how a search ends in time."""

from itertools import pairwise
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, FakePolicy, FakeValue, Retrieval, create_reasoner
from rlm_agent.graphs.machine.common import Common
from rlm_agent.graphs.reasoner import STRATEGIES, get_strategy, parameters_of
from rlm_agent.structure.errors import InputError, UnknownNameError
from tests.graphs.scripts import CASES, LIBRARY, LOOPS, accepts, ask, grown, guess, reason, thread, wander


def test_every_strategy_is_among_the_cases_of_these_tests() -> None:
    assert {strategy for strategy, _ in CASES.values()} == set(STRATEGIES)
    for strategy, parameters in CASES.values():
        own = set(parameters) - set(Common.__annotations__)
        assert own == set(parameters_of(STRATEGIES[strategy]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "mtcs"}, "there is no strategy 'mtcs'; choose one of chain, self_consistency"),
        ({"widht": 2}, "the strategy 'beam_search' has no parameter 'widht'; did you mean 'width'"),
        ({"branching": 2}, "the strategy 'beam_search' has no parameter 'branching'"),
        ({"model": "maxi"}, "there is no model 'maxi'; use mini, mini-tools, the path of a .gguf"),
        ({"model": 3}, "int is no policy; give a name, a path, a Policy or a chat"),
        ({"steps": "sudoku"}, "there is no task 'sudoku'"),
        ({"verifier": "sudoku"}, "there is no task 'sudoku'"),
    ],
)
def test_names_that_do_not_exist_are_refused_with_those_that_do(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnknownNameError) as raised:
        create_reasoner(**{"strategy": "beam_search", "model": FakePolicy(wander), **arguments})
    assert message in str(raised.value)


ACTING = "chain self_consistency best_of_n beam_search dvts best_first mcts react lats".split()


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_what_a_strategy_does_not_take_is_refused(strategy: str) -> None:
    """Tools and queries, where it cannot act; what is neither a tool nor a retriever in any case."""
    make, each = get_strategy(strategy), Retrieval(LIBRARY, when="each")
    tools = "str is no tool" if strategy in ACTING else f"'{strategy}' takes no tools in this version"
    refused: list[tuple[dict[str, Any], str]] = [({"tools": ["search"]}, tools)]
    refused.append(({"retriever": ["search"]}, "list is no retriever; give a Retriever or"))
    if strategy not in ACTING:
        refused.append(({"retriever": each}, f"'{strategy}' retrieves before its search alone"))
    for keywords, message in refused:
        with pytest.raises(InputError, match=message):
            make(FakePolicy(wander), value=FakeValue(guess), **keywords)


@pytest.mark.parametrize(
    ("case", "operators"),
    [
        ("chain", ["select", "generate", "evaluate"]),
        ("self_consistency", ["select", "generate", "evaluate"]),
        ("best_of_n", ["select", "generate", "evaluate"]),
        ("beam_search", ["select", "generate", "evaluate", "prune"]),
        ("mcts", ["select", "generate", "evaluate", "backpropagate"]),
        ("llama_berry", ["select", "refine", "evaluate"]),
    ],
)
def test_nodes_bear_the_names_of_operators_and_the_drawing_shows_them(
    case: str, operators: list[str]
) -> None:
    drawn = reason(case).get_graph()
    assert set(drawn.nodes) == {"__start__", "begin", *operators, "conclude", "__end__"}
    mermaid = drawn.draw_mermaid()
    assert all(f"{operator}({operator})" in mermaid for operator in operators)


@pytest.mark.parametrize("case", list(CASES))
def test_the_state_shows_thoughts_statistics_and_run(case: str) -> None:
    reasoner = reason(case, checkpointer=InMemorySaver())
    result = reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    assert {"messages", "answer", "usage", "thoughts", "stats", "run"} <= set(values)
    graph, run = grown(values), values["run"]
    assert set(graph.walk()) == set(values["thoughts"]), "every thought descends from the root"
    assert graph.question == "where to?"
    assert (run["seed"], run["turn"]) == (7, 1)
    assert {id for id, _ in run["plan"]} | set(run["fresh"]) <= set(graph.walk())
    assert run["stopped"] in {"calls", "exhausted"}
    best = run["best"]
    assert result["answer"] == (graph.thoughts[best]["answer"] if best else None)


def test_a_reasoner_bears_the_name_of_its_strategy_or_its_own() -> None:
    assert reason("mcts").name == "mcts"
    assert reason("mcts", name="thinker").name == "thinker"


MAYBE = type(None)
SHAPES: dict[str, dict[str, Any]] = {
    "operator": {
        "event": str,
        "operator": str,
        "inputs": list,
        "outputs": list,
        "model_calls": int,
        "tokens": int,
    },
    "span": {
        "event": str,
        "operator": str,
        "inputs": list,
        "outputs": list,
        "thought": str,
        "begin": int,
        "end": int,
    },
    "thought": {
        "event": str,
        "id": str,
        "parent": str,
        "depth": int,
        "kind": str,
        "text": str,
        "reason": (str, MAYBE),
        "value": (float, MAYBE),
    },
    "value": {"event": str, "operator": str, "thoughts": dict},
    "best": {"event": str, "thought": str, "answer": (str, MAYBE), "value": (float, MAYBE)},
    "budget": {
        "event": str,
        "round": int,
        "tokens": (int, MAYBE),
        "calls": (int, MAYBE),
        "nodes": (int, MAYBE),
        "seconds": (float, MAYBE),
    },
    "answer": {
        "event": str,
        "answer": (str, MAYBE),
        "verified": (bool, MAYBE),
        "stopped": str,
        "usage": dict,
    },
}


@pytest.mark.parametrize("case", list(CASES))
def test_every_event_has_its_shape_and_every_thought_is_told_once(case: str) -> None:
    reasoner = reason(case, checkpointer=InMemorySaver())
    told: list[Any] = list(reasoner.stream(ask(), thread(), stream_mode="custom"))
    values = reasoner.get_state(thread()).values
    for event in told:
        shape = SHAPES[event["event"]]
        assert set(event) == set(shape)
        assert all(isinstance(value, shape[name]) for name, value in event.items()), event
    thoughts = [event for event in told if event["event"] == "thought"]
    ids = [event["id"] for event in thoughts]
    assert len(set(ids)) == len(ids)
    assert set(ids) == set(values["thoughts"]) - {values["run"]["root"]}
    for event in thoughts:
        thought = values["thoughts"][event["id"]]
        assert (event["parent"], event["text"], event["kind"]) == (
            thought["parent"], thought["text"], thought["kind"]
        )  # fmt: skip
        assert event["value"] == values["stats"][event["id"]]["value"] or case not in LOOPS
        assert (event["reason"] is None) == (thought["kind"] != "failed")
    for parent, id in ((event["parent"], event["id"]) for event in thoughts):
        assert parent == values["run"]["root"] or ids.index(parent) < ids.index(id)


@pytest.mark.parametrize("case", list(CASES))
def test_the_operators_told_add_up_to_the_search(case: str) -> None:
    told: list[Any] = list(reason(case).stream(ask(), stream_mode="custom"))
    runs = [event for event in told if event["event"] == "operator"]
    *_, last = told
    assert last["event"] == "answer"
    assert sum(event["model_calls"] for event in runs) == last["usage"]["model_calls"]
    assert sum(event["tokens"] for event in runs) == last["usage"]["completion_tokens"]
    begun = [event["operator"] for event in runs if event["operator"] != "retrieve"]
    assert begun[:2] == ["select", "generate"] or case not in LOOPS
    assert {"select", "generate", "evaluate"} <= {event["operator"] for event in runs}
    for select, generate in pairwise(runs):
        if (select["operator"], generate["operator"]) == ("select", "generate"):
            assert generate["inputs"] == select["outputs"]


def test_the_last_event_tells_the_answer_and_why_the_search_ended() -> None:
    reasoner = reason("best_of_n", verifier=accepts("answer 0"))
    *_, last = reasoner.stream(ask(), stream_mode="custom")
    assert (last["answer"], last["verified"], last["stopped"]) == ("answer 0", True, "verified")
    *_, last = reason("best_of_n").stream(ask(), stream_mode="custom")
    assert (last["verified"], last["stopped"]) == (None, "exhausted")
    *_, last = reason("best_of_n", verifier=accepts("never")).stream(ask(), stream_mode="custom")
    assert (last["verified"], last["stopped"]) == (False, "exhausted")


@pytest.mark.parametrize("limit", [3, 8, 12, 13, 14, 15, 20])
@pytest.mark.parametrize("case", ["mcts", "x1", "beam_search"])
def test_langgraphs_recursion_limit_ends_a_search_with_what_it_has(case: str, limit: int) -> None:
    reasoner = reason(case, checkpointer=InMemorySaver(), budget=Budget(calls=120))
    result = reasoner.invoke(ask(), thread(limit=limit))
    values = reasoner.get_state(thread()).values
    assert values["run"]["stopped"] == "recursion limit"
    assert result["messages"][-1].type == "ai"
    reasoner.invoke({"messages": []}, thread())
    assert len(reasoner.get_state(thread()).values["thoughts"]) > len(values["thoughts"])
