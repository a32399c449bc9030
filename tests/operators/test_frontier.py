"""The frontier that is kept says what one that is made anew says."""

from collections.abc import Mapping

from rlm_agent.operators.prune import known_states
from rlm_agent.operators.rules.frontier import Frontier
from rlm_agent.structure.thoughts import ThoughtGraph
from tests.structure.trees import graft, plant


def worth(graph: ThoughtGraph, id: str, found: Mapping[str, float]) -> float:
    return graph.stats[id]["value"] or 0.1


def test_nobody_is_known_by_the_state_of_a_failed_thought() -> None:
    """A search that goes on after a stop, and makes its frontier anew, must not go another way."""
    graph = plant()
    kept = Frontier(graph, 1, worth)
    graph, failed = graft(graph, graph.root, "too late", "failed", state="s")
    kept.grow(graph, [failed])
    graph, other = graft(graph, graph.root, "in time", state="s", value=0.5)
    assert kept.known(graph, [other]) == known_states(graph, [other]) == []
    kept.grow(graph, [other])
    graph, again = graft(graph, graph.root, "once more", state="s")
    assert kept.known(graph, [again]) == known_states(graph, [again]) == [again]
    anew = Frontier(graph, 1, worth)
    assert anew.states == {"s"} == kept.states
    assert kept.best(graph, 1) == anew.best(graph, 1) == [other]
