"""How moves are counted, valued and followed, and which failures are worth a reflection."""

import pytest

from rlm_agent.operators.rules.trajectories import Simulation, agreement, moves, new_failures
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.thoughts import Kind, ThoughtGraph, Writes
from tests.structure.trees import graft, marked, plant

SIMULATION = Simulation(branching=3, depth=3, share=0.8)


def answer_call(
    graph: ThoughtGraph, id: str, kind: Kind = "step", value: float | None = None
) -> ThoughtGraph:
    """The graph in which a tool has answered a thought."""
    graph, place = graft(graph, id, "Observation: o", kind, tokens=0, value=value)
    return graph.updated(Writes({place: {**graph.thoughts[place], "operator": "act"}}, {}))


def test_a_move_is_a_step_with_its_observation() -> None:
    graph, call = graft(plant(), plant().root, "Action: look[x]")
    graph = answer_call(graph, call)
    graph, step = graft(graph, child_id(call, 0), "then")
    assert [moves(graph, id) for id in (graph.root, call, child_id(call, 0), step)] == [0, 1, 1, 2]


def test_agreement_is_the_share_of_siblings_that_say_the_same_failures_counted() -> None:
    graph, ids = plant(), []
    for text, kind in (("a", "step"), ("b", "step"), ("a", "step"), ("a", "final"), ("a", "failed")):
        graph, id = graft(graph, graph.root, text, kind)  # type: ignore[arg-type]
        ids.append(id)
    assert [agreement(graph, id) for id in ids] == pytest.approx([0.4, 0.2, 0.4, 0.2, 0.2])
    assert agreement(graph, graph.root) == 1.0


def test_a_move_is_worth_its_models_value_and_its_agreement_in_shares() -> None:
    """λ = .8, and of two siblings that differ each has SC = ½; one is valued .6, the other not at all."""
    graph, one = graft(plant(), plant().root, "a", value=0.6)
    graph, other = graft(graph, graph.root, "b")
    assert SIMULATION.value(graph, one) == pytest.approx(0.8 * 0.6 + 0.2 * 0.5)
    assert SIMULATION.value(graph, other) == 0.5


def test_the_value_of_a_call_is_that_of_its_observation() -> None:
    graph, call = graft(plant(), plant().root, "Action: look[x]")
    assert SIMULATION.value(answer_call(graph, call, value=0.25), call) == pytest.approx(0.8 * 0.25 + 0.2)


def test_a_simulation_follows_an_end_before_a_step_and_new_moves_alone() -> None:
    graph, ids = plant(), dict[str, str]()
    for text, kind, value in (
        ("old", "step", 1.0), ("low", "step", 0.2), ("high", "step", 0.9), ("high", "step", 0.9),
        ("failed", "failed", 0.0), ("wrong", "final", 0.1), ("better", "final", 0.3),
    ):  # fmt: skip
        graph, id = graft(graph, graph.root, text, kind, value=value)  # type: ignore[arg-type]
        ids.setdefault(text, id)
    new = [id for id in graph.children(graph.root) if id != ids["old"]]
    for best in ("better", "wrong", "high", "low"):
        assert SIMULATION.following(graph, graph.root, new) == ids[best]
        new.remove(ids[best])
    assert SIMULATION.following(graph, graph.root, {ids["failed"]}) is None
    assert SIMULATION.following(graph, graph.root, set()) is None


def test_a_call_whose_observation_failed_is_not_followed() -> None:
    graph, call = graft(plant(), plant().root, "Action: look[x]")
    assert SIMULATION.following(answer_call(graph, call, "failed"), graph.root, {call}) is None


@pytest.mark.parametrize(
    ("kind", "value", "reward"),
    [("final", 1.0, 1.0), ("final", 0.0, -1.0), ("final", 0.25, -0.5), ("final", None, 0.0),
     ("step", 0.5, 2 * (0.8 * 0.5 + 0.2) - 1), ("step", None, 1.0), ("failed", 0.0, -1.0)],
)  # fmt: skip
def test_a_simulation_returns_what_it_came_to(kind: str, value: float | None, reward: float) -> None:
    """A step at its end was left there by the budget; where it failed, nothing came of the start."""
    graph, end = graft(plant(), plant().root, "end", kind, value=value)  # type: ignore[arg-type]
    place, found = SIMULATION.reward(graph, graph.root, {end})
    assert place == (graph.root if kind == "failed" else end)
    assert found == pytest.approx(reward)


def test_the_depth_limit_returns_minus_one_at_the_last_observation() -> None:
    graph, id = plant(), plant().root
    fresh = set()
    for text in ("a", "b", "Action: look[x]"):
        graph, id = graft(graph, id, text, value=1.0)
        fresh.add(id)
    graph = answer_call(graph, id, value=1.0)
    assert SIMULATION.reward(graph, graph.root, fresh) == (child_id(id, 0), -1.0)


def ends(*answers: tuple[str, float]) -> tuple[ThoughtGraph, list[str]]:
    graph, ids = plant(), []
    for answer, value in answers:
        graph, id = graft(graph, graph.root, f"so {answer}", "final", answer=answer, value=value)
        ids.append(id)
    return graph, ids


def test_the_first_end_of_each_wrong_answer_is_a_new_failure_up_to_the_most() -> None:
    graph, ids = ends(("1/2", 0.0), ("0.5", 0.0), ("3", 0.0), ("4", 0.5), ("5", 0.0))
    assert new_failures(graph, ids, 9) == [ids[0], ids[2], ids[4]]
    assert new_failures(graph, ids, 2) == [ids[0], ids[2]]
    told = marked(graph, ids[0], feedback="hm")
    assert new_failures(told, ids[1:], 9) == [ids[2], ids[4]], "½ was reflected on"
    assert new_failures(told, ids[1:], 2) == [ids[2]]
    assert new_failures(told, ids[1:], 1) == new_failures(told, [], 9) == []


def test_nobody_reflects_once_an_answer_is_right() -> None:
    graph, ids = ends(("3", 0.0), ("4", 1.0))
    assert new_failures(graph, ids, 9) == []
