"""Best-first search: its arithmetic by hand, a golden tree, equality with a plain loop, and bad values."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, FakePolicy, FakeValue, Steps, ThoughtGraph, create_best_first
from rlm_agent.graphs.best_first import promise
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Message
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.generate import generate
from rlm_agent.operators.prune import close, known_states, novelty
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.steps import Checked
from tests.graphs.scripts import accepts, ask, grown, thread
from tests.structure.trees import graft, plant

VALUES = {"a": 0.2, "b": 0.8, "ba": 0.1, "bb": 0.9, "bbX": 0.5, "c": 0.3}


def state(question: str, before: str | None, step: str) -> Checked:
    """The state of a chain is its text, but that "cc" is "b" again; capitals end a chain."""
    after = (before or "") + step
    return Checked(state="b" if after == "cc" else after, final=step.isupper())


STEPS = Steps(max_tokens=6, max_steps=4, check=state, answer=lambda question, steps: short(steps))


def short(steps: Sequence[str]) -> str:
    """The state that steps lead to."""
    return "".join(steps).replace("cc", "b")


def script(question: str, prefix: str) -> list[Reply]:
    """First a, b, c and a again; under b: a, b, b; under bb the end X; under all else c."""
    path = short(prefix.split("\n"))
    choices = {"": "abca", "b": "abb", "bb": "X"}.get(path, "c")
    return [(choice, -1.0) for choice in choices]


def value() -> FakeValue:
    return FakeValue(lambda steps: VALUES.get("".join(steps), 0.0))


def test_golden_tree() -> None:
    """By hand, with trust 1 and hope .5; no chain has ended, so that an index is a promise.

    1. Only the root: child a, V = .2. The root's novelty is (1 + 1) / (1 + 1) = 1.
    2. root: (.5 + .2) / 2 = .35; a: .2. The root: child b, V = .8.
    3. root: (.5 + .2 + .8) / 3 = .5; b: .8. b: child ba, V = .1.
    4. b: (.8 + .1) / 2 = .45; root: (.5 + .2 + .45) / 3 = .383. b: child bb, V = .9.
    5. b: (.8 + .1 + .9) / 3 = .6; root: (.5 + .2 + .6) / 3 = .433; bb: .9. bb: X, which ends and is right.
    """
    policy = FakePolicy(script, cycle=True)
    reasoner = create_best_first(
        policy,
        trust=1.0,
        hope=0.5,
        value=value(),
        steps=STEPS,
        verifier=accepts("bbX"),
        budget=Budget(calls=100),
    )
    assert reasoner.invoke(ask())["answer"] == "bbX"
    assert [request.prefix.replace("\n", "") for request in policy.requests] == ["", "", "b", "b", "bb"]


def test_novelty_counts_what_was_said_once() -> None:
    """Of five children two say x, one says y, one z, and one failed: (2 + 1) / (5 + 1)."""
    graph = plant()
    for text in ("x", "x", "y", "z"):
        graph, last = graft(graph, graph.root, text)
    graph, _ = graft(graph, graph.root, "?", "failed")
    assert novelty(graph, graph.root) == 0.5
    assert novelty(graph, last) == 1.0


def test_promises_of_a_tree_by_hand() -> None:
    """With trust 2 and hope .3: x has failed once, (2 · .6 + 0) / 3 · 1/2 = .2; y is a repeat, known from
    elsewhere; the root's two children say different things: (2 · .3 + .2) / 3 · 3/3."""
    graph = plant()
    graph, x = graft(graph, graph.root, "x", value=0.6)
    graph, failed = graft(graph, x, "?", "failed")
    graph, y = graft(graph, graph.root, "y", value=0.9, closed=True)
    found = promises(graph, trust=2.0, hope=0.3)
    assert found == pytest.approx({failed: 0.0, x: 0.2, graph.root: 0.8 / 3})
    assert y not in found


def promises(graph: ThoughtGraph, trust: float, hope: float) -> dict[str, float]:
    """The promises of all thoughts, children before their parents."""
    found: dict[str, float] = {}
    for id in reversed(list(graph.walk())):
        worth = promise(graph, id, found, trust=trust, hope=hope)
        found |= {} if worth is None else {id: worth}
    return found


def mean_length(graph: ThoughtGraph) -> float:
    """The mean depth of the chains that have come to an answer; 0 where none has."""
    depths = [graph.thoughts[id]["depth"] for id in graph.finals()]
    return sum(depths) / len(depths) if depths else 0.0


@pytest.mark.parametrize("rounds", [25, 120])
@pytest.mark.parametrize("seed", [1, 4, 9])
def test_a_plain_loop_over_the_operators_grows_the_same_tree(seed: int, rounds: int) -> None:
    reasoner = create_best_first(
        FakePolicy(script),
        value=value(),
        steps=STEPS,
        seed=seed,
        budget=Budget(nodes=rounds),
        checkpointer=InMemorySaver(),
    )
    reasoner.invoke(ask(), thread())
    grown_by_machine, grown_by_loop = grown(reasoner.get_state(thread()).values), plain(rounds, seed)
    assert grown_by_loop.thoughts == grown_by_machine.thoughts
    assert grown_by_loop.stats == grown_by_machine.stats
    assert any(stats["closed"] for stats in grown_by_loop.stats.values())


def plain(rounds: int, seed: int) -> ThoughtGraph:
    """The same search as a loop over the operators."""
    asked = (Message(role="user", content="where to?"),)
    setting = Setting(FakePolicy(script), asked, seed, STEPS, value=value(), distinct=True)
    graph, allowance = plant("where to?"), Allowance()
    for _ in range(rounds):
        promise, length = promises(graph, 2.0, 0.3), mean_length(graph)
        frontier = [id for id in graph.walk() if not graph.stats[id]["closed"]]
        indices = [promise[id] / max(1.0, length - graph.thoughts[id]["depth"]) for id in frontier]
        chosen = frontier[indices.index(max(indices))]
        born = drive(generate(graph, [(chosen, 1)], setting, allowance))
        graph = graph.updated(born.writes)
        graph = graph.updated(drive(evaluate(graph, born.outputs, setting, allowance)).writes)
        graph = graph.updated(close(graph, known_states(graph, born.outputs)))
    return graph


@pytest.mark.parametrize("said", [math.nan, 0.0, 1.0])
def test_values_that_say_nothing_leave_the_search_alive(said: float) -> None:
    reasoner = create_best_first(
        FakePolicy(script),
        value=FakeValue(lambda steps: said),
        steps=STEPS,
        verifier=accepts("bbX"),
        seed=1,
        budget=Budget(nodes=200),
    )
    assert reasoner.invoke(ask())["answer"] == "bbX"


@pytest.mark.parametrize(
    "wrong", [{"parallel": 0}, {"trust": 0.0}, {"trust": math.nan}, {"hope": 1.5}, {"hope": -0.1}]
)
def test_parameters_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="give at least 1"):
        create_best_first(FakePolicy(script), value=value(), **wrong)


def test_a_policy_that_cannot_be_looked_into_needs_a_value() -> None:
    with pytest.raises(InputError, match="give a Value"):
        create_best_first(FakePolicy(script))
