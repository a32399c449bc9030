"""From trees made by hand to journeys and pairs: what is right, what is wrong, and what nobody knows."""

import json
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import FakePolicy, FakeValue, ThoughtGraph
from rlm_agent.operators.restructure import TAGGED
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.training.journeys import Journey, Pair, journeys, pairs, stored_tree, write_examples
from tests.graphs.scripts import accepts, ask, reason, thread, wander
from tests.structure.trees import graft, grown, marked


def tree() -> tuple[ThoughtGraph, dict[str, str]]:
    """a leads to a right and a wrong answer and to x, which comes to none; b to a wrong one; c to none."""
    graph, ids = grown({"q": ["a", "b", "c"], "a": ["x"]})
    for parent, text, value in (("a", "right", 1.0), ("a", "wrong", 0.0), ("b", "bad", 0.0)):
        graph, ids[text] = graft(graph, ids[parent], text, "final", answer=text, value=value)
    graph, ids["failed"] = graft(graph, ids["a"], "failed", "failed")
    return graph, ids


def test_a_journey_tries_what_came_to_a_wrong_answer_and_drops_what_came_to_none() -> None:
    """Under the root b, not c; under a "wrong", neither x nor what failed."""
    graph, _ = tree()
    (journey,) = journeys(graph, wrong=9, wording=TAGGED)
    assert journey == Journey(
        "q",
        [
            "<|continue|>b", "<|continue|>bad", "<|reflect|>back to 0",
            "<|explore|>a", "<|continue|>wrong", "<|reflect|>back to 1",
            "<|explore|>right",
        ],
    )  # fmt: skip


def test_each_right_answer_has_its_journey_and_equal_chains_have_one() -> None:
    """A second right answer under b makes b right; a twin of the first one is the same journey."""
    graph, ids = tree()
    graph, _ = graft(graph, ids["a"], "right", "final", answer="right", value=1.0)
    graph, _ = graft(graph, ids["b"], "fine", "final", answer="fine", value=1.0)
    assert [journey.chain for journey in journeys(graph, wrong=0)] == [["a", "right"], ["b", "fine"]]
    turned = [journey.chain for journey in journeys(graph)]
    assert [chain[0] for chain in turned] == ["a", "b"], "neither is a wrong branch of the other"


def test_what_counts_as_right_is_the_callers() -> None:
    graph, ids = tree()
    graph = marked(marked(graph, ids["right"], value=0.7), ids["bad"], value=None)
    assert journeys(graph) == [] and pairs(graph) == []
    assert [journey.chain[-1] for journey in journeys(graph, right=0.7)] == ["right"]


def test_pairs_set_the_right_step_against_each_wrong_one_after_the_same_steps() -> None:
    graph, _ = tree()
    assert pairs(graph) == [Pair("q", [], "a", "b"), Pair("q", ["a"], "right", "wrong")]


def test_a_pair_never_sets_a_step_against_itself_and_names_each_wrong_one_once() -> None:
    """A twin of a leads to a wrong answer; b has a twin that does, too; the better of a and d is chosen."""
    graph, ids = tree()
    for text in ("a", "b", "d"):
        graph, ids[f"{text}'"] = graft(graph, graph.root, text, value=0.5)
        value = 1.0 if text == "d" else 0.0
        graph, _ = graft(graph, ids[f"{text}'"], f"end {text}", "final", answer=text, value=value)
    first = [pair for pair in pairs(graph) if not pair.prefix]
    assert first == [Pair("q", [], "d", "b")]


def test_a_journey_told_again_is_no_answer_of_its_own() -> None:
    graph, ids = tree()
    graph, told = graft(graph, ids["right"], "the whole story", "final", answer="right", value=1.0)
    again = {**graph.thoughts[told], "operator": "restructure", "base": graph.root}
    graph = ThoughtGraph(graph.root, {**graph.thoughts, told: again}, graph.stats)  # type: ignore[dict-item]
    assert [journey.chain for journey in journeys(graph, wrong=0)] == [["a", "right"]]


def test_examples_are_written_a_line_each_as_json(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    assert write_examples(path, pairs(tree()[0])) == 2
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {"question": "q", "prefix": [], "chosen": "a", "rejected": "b"},
        {"question": "q", "prefix": ["a"], "chosen": "right", "rejected": "wrong"},
    ]
    assert write_examples(path, [Journey("q", ["é"])]) == 1
    assert path.read_text(encoding="utf-8") == '{"question": "q", "chain": ["é"]}\n'


def stored(case: str, **keywords: Any) -> dict[str, Any]:
    """The values of a search's state, by way of JSON."""
    reasoner = reason(case, FakePolicy(wander), checkpointer=InMemorySaver(), **keywords)
    reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    kept: dict[str, Any] = json.loads(
        json.dumps({name: values[name] for name in ("run", "thoughts", "stats")})
    )
    return kept


@pytest.mark.parametrize("case", ["x1", "beam_search", "rest_mcts", "journey_smoothed"])
def test_the_tree_of_any_search_can_be_stored_and_told(case: str) -> None:
    graph = stored_tree(stored(case, verifier=accepts("answer 0"), stop_when_verified=False))
    right = {"answer 0"}
    told = journeys(graph, wrong=2)
    assert told and all(journey.chain[-1] in right for journey in told)
    assert all(pair.rejected not in right for pair in pairs(graph))


def test_a_tree_without_values_has_nothing_right_in_it() -> None:
    graph = stored_tree(stored("tot_bfs", value=None))
    assert journeys(graph) == [] and pairs(graph) == []


def test_values_that_are_no_numbers_harm_nothing() -> None:
    odd = FakeValue(lambda steps: float("nan"))
    assert journeys(stored_tree(stored("x1", value=odd))) == []


@pytest.mark.parametrize("values", [{}, {"run": {}}, {"run": {"root": "x"}, "thoughts": {}}, {"run": None}])
def test_a_state_without_a_tree_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"the state holds no tree .*; give the values"):
        stored_tree(values)
