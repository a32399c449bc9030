"""How wide to search by uncertainty, and when a vote is over: worked numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.operators.rules.adaptive import Adaptive, agreed, confidence, lead
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import Thought, ThoughtGraph, Writes
from tests.structure.trees import graft, plant

RULE = Adaptive(entropy=0.2, varentropy=0.1, widen=2.0)


@pytest.mark.parametrize(
    ("entropy", "varentropy", "advice", "factor"),
    [
        (0.1, 0.05, "go on", 0.5),
        (0.1, 0.3, "search", 2.0),
        (0.9, 0.05, "refine", 1.0),
        (0.9, 0.3, "sample", 1.0),
        (0.2, 0.1, "go on", 0.5),
    ],
)
def test_uncertainty_advises_what_to_do_and_how_many_children_to_have(
    entropy: float, varentropy: float, advice: str, factor: float
) -> None:
    graph, id = grown(entropy, varentropy)
    assert RULE.advise(entropy, varentropy) == advice
    assert RULE.factor(graph, id) == factor


def grown(entropy: float, varentropy: float) -> tuple[ThoughtGraph, str]:
    """A root with one traced step."""
    graph, id = graft(plant(), plant().root, "s")
    return traced(graph, id, entropy, varentropy), id


def traced(graph: ThoughtGraph, id: str, entropy: float, varentropy: float) -> ThoughtGraph:
    thought = Thought({**graph.thoughts[id], "entropy": entropy, "varentropy": varentropy})
    return graph.updated(Writes({id: thought}, {}))


def test_what_was_written_under_a_thought_tells_more_than_the_thought_itself() -> None:
    """The children's means: entropy (.1 + .2)/2 = .15, varentropy (.0 + .4)/2 = .2, which is to search."""
    graph, id = grown(0.9, 0.05)
    for text, entropy, varentropy in (("a", 0.1, 0.0), ("b", 0.2, 0.4)):
        graph, child = graft(graph, id, text)
        graph = traced(graph, child, entropy, varentropy)
    graph, _ = graft(graph, id, "not traced")
    assert RULE.factor(graph, id) == 2.0


def test_without_a_trace_the_number_of_children_stays_as_it_is() -> None:
    graph, id = graft(plant(), plant().root, "s")
    assert RULE.factor(graph, id) == RULE.factor(graph, graph.root) == 1.0


def test_the_rule_is_named_by_itself_or_by_true() -> None:
    assert Adaptive.named(RULE) is RULE
    assert Adaptive.named(True) == Adaptive()
    assert Adaptive.named(False) is None


@pytest.mark.parametrize(
    "bounds",
    [{"entropy": -0.1}, {"varentropy": -1}, {"widen": 0.5}, {"widen": math.inf}, {"entropy": math.nan}],
)
def test_bounds_that_part_nothing_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(InputError, match="give bounds of at least 0"):
        Adaptive(**bounds)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(0, 0, 1 / 2), (1, 0, 3 / 4), (1, 1, 1 / 2), (3, 0, 15 / 16), (4, 0, 31 / 32), (5, 1, 120 / 128)],
)
def test_the_confidence_in_a_lead_by_hand(first: int, second: int, expected: float) -> None:
    """∫ x^a (1 − x)^b over [½, 1], of that over [0, 1]: with b = 0 it is 1 − ½^(a + 1).

    For a = 5, b = 1: 42 ∫ (x⁵ − x⁶) = 7x⁶ − 6x⁷, from ½ to 1: 1 − (7/64 − 6/128) = 120/128.
    """
    assert confidence(first, second) == pytest.approx(expected)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_confidence_is_that_of_the_integral(first: int, second: int) -> None:
    points = [(number + 0.5) / 4000 for number in range(4000)]
    weights = [point**first * (1 - point) ** second for point in points]
    assert confidence(first, second) == pytest.approx(sum(weights[2000:]) / sum(weights), abs=1e-4)


def test_a_lead_is_that_of_the_first_choice_over_the_second() -> None:
    assert lead("abacada") == (4, 1)
    assert lead("aaa") == (3, 0)
    assert lead([]) == (0, 0)


@pytest.mark.parametrize(
    ("votes", "outstanding", "over"),
    [
        ("aaaa", 36, True),
        ("aaa", 36, False),
        ("aab", 1, False),
        ("aab", 0, True),
        ("aabaa", 2, True),
        ("baa", 1, False),
        ("", 0, False),
    ],
)
def test_a_vote_is_over_when_it_is_sure_or_cannot_turn(votes: str, outstanding: int, over: bool) -> None:
    """At .95, four votes without dissent are sure (31/32), and three are not (15/16). A tie may turn it."""
    assert agreed(votes, outstanding, 0.95) is over
