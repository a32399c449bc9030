"""Pairwise evaluation: what is kept of a comparison, what it may cost, and what a failure leaves alone."""

import copy
import math
from collections.abc import Sequence

import pytest

from rlm_agent import FakePolicy
from rlm_agent.models.drive import adrive, drive
from rlm_agent.models.judges import JudgePreference
from rlm_agent.models.protocols import Candidate, Message, Preference, Score
from rlm_agent.operators.evaluate import compare
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import ThoughtGraph
from tests.structure.trees import graft, grown, marked

QUESTION = Message(role="user", content="q")


class Scripted:
    """A preference that says what it was told to, in order."""

    identity = "scripted"

    def __init__(self, *scores: Score) -> None:
        self.scores = scores
        self.pairs: list[tuple[Candidate, Candidate]] = []

    def prefer(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Score]:
        self.pairs += pairs
        return list(self.scores[: len(pairs)])

    async def aprefer(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Score]:
        return self.prefer(pairs)


def setting(preference: Preference | None) -> Setting:
    return Setting(FakePolicy(lambda question, prefix: []), (QUESTION,), 0, preference=preference)


def known(graph: ThoughtGraph, ids: dict[str, str]) -> dict[str, dict[str, float]]:
    """All preferences, by name."""
    names = {id: name for name, id in ids.items()}
    return {
        name: {names[other]: p for other, p in graph.stats[id].get("preferences", {}).items()}
        for name, id in ids.items()
    }


def test_the_first_of_a_pair_keeps_the_probability_that_it_is_the_better_one() -> None:
    graph, ids = grown({"q": ["a", "b", "c"]})
    graph = marked(graph, ids["a"], preferences={"elsewhere": 0.9})
    scripted = Scripted(Score(0.8, prompt_tokens=5), Score(0.25, prompt_tokens=4, tokens=2, calls=3))
    pairs = [(ids["a"], ids["b"]), (ids["c"], ids["a"])]
    outcome = drive(compare(graph, pairs, setting(scripted), Allowance()))
    after = graph.updated(outcome.writes)
    assert after.stats[ids["a"]].get("preferences") == {"elsewhere": 0.9, ids["b"]: 0.8}
    assert "preferences" not in after.stats[ids["b"]]
    assert after.stats[ids["c"]].get("preferences") == {ids["a"]: 0.25}
    assert outcome.outputs == [ids["a"], ids["b"], ids["c"]]
    assert outcome.writes.thoughts == {}
    usage = outcome.usage
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["model_calls"]) == (9, 2, 4)
    (event,) = outcome.trace
    assert (event["operator"], event["inputs"]) == ("compare", [ids["a"], ids["b"], ids["c"]])


def test_whole_chains_are_compared_and_it_is_said_whether_they_have_ended() -> None:
    graph, ids = grown({"q": ["a"]})
    graph, end = graft(graph, ids["a"], "end", "final", answer="end")
    scripted = Scripted(Score(0.5))
    drive(compare(graph, [(ids["a"], end)], setting(scripted), Allowance()))
    assert scripted.pairs == [
        (Candidate((QUESTION,), ("a",), False), Candidate((QUESTION,), ("a", "end"), True))
    ]


def test_a_comparison_that_failed_leaves_its_pair_and_no_other_as_it_was() -> None:
    graph, ids = grown({"q": ["a", "b", "c", "d", "e"]})
    scripted = Scripted(Score(0.0, error="no reply"), Score(math.nan), Score(7.0), Score(-3.0))
    pairs = [(ids["a"], ids[name]) for name in "bcdeb"]
    outcome = drive(compare(graph, pairs, setting(scripted), Allowance()))
    assert known(graph.updated(outcome.writes), ids) == {
        "q": {}, "a": {"d": 1.0, "e": 0.0}, "b": {}, "c": {}, "d": {}, "e": {}
    }  # fmt: skip
    assert outcome.usage["model_calls"] == 4  # the fifth score is missing


class Writer(Scripted):
    """A preference that may take two calls and thirty tokens."""

    most_calls = 2
    most_tokens = 30


class Looker(Scripted):
    """A preference that may take two calls and generates nothing."""

    most_calls = 2
    most_tokens = 0


@pytest.mark.parametrize(
    ("kind", "allowance", "count"),
    [
        (Scripted, Allowance(), 4),
        (Scripted, Allowance(calls=3), 3),
        (Scripted, Allowance(calls=0), 0),
        (Scripted, Allowance(seconds=0), 0),
        (Scripted, Allowance(tokens=0, nodes=0), 4),
        (Writer, Allowance(calls=5), 2),
        (Writer, Allowance(tokens=89), 2),
        (Writer, Allowance(calls=1), 0),
        (Looker, Allowance(calls=7, tokens=0), 3),
    ],
)
def test_what_a_comparison_may_take_fits_the_allowance(
    kind: type[Scripted], allowance: Allowance, count: int
) -> None:
    graph, ids = grown({"q": ["a", "b", "c", "d", "e"]})
    scripted = kind(*[Score(0.5)] * 9)
    drive(compare(graph, [(ids["a"], ids[name]) for name in "bcde"], setting(scripted), allowance))
    assert len(scripted.pairs) == count


def test_a_judge_is_reckoned_with_both_orders() -> None:
    """Three replies to each order are six calls; with eleven left, one pair is asked."""
    graph, ids = grown({"q": ["a", "b", "c"]})
    judge = FakePolicy(lambda question, prefix: [("The best choice is 1", -1.0, True)])
    preference = JudgePreference(judge, samples=3, max_tokens=10)
    assert (preference.most_calls, preference.most_tokens) == (6, 60)
    pairs = [(ids["a"], ids["b"]), (ids["a"], ids["c"])]
    for allowance in (Allowance(calls=11), Allowance(tokens=119)):
        outcome = drive(compare(graph, pairs, setting(preference), allowance))
        assert outcome.usage["model_calls"] == 6
        assert outcome.outputs == [ids["a"], ids["b"]]


def test_no_pair_asks_nobody_and_without_a_preference_it_is_an_error() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    scripted = Scripted()
    assert drive(compare(graph, [], setting(scripted), Allowance())).outputs == []
    asking = compare(graph, [(ids["a"], ids["b"])], setting(None), Allowance())
    with pytest.raises(InputError, match="give the strategy a preference model"):
        drive(asking)


async def test_plain_and_async_comparisons_agree_and_change_no_input() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    before = copy.deepcopy((graph.thoughts, graph.stats))
    pairs = [(ids["a"], ids["b"])]

    def asking() -> Outcome:
        return drive(compare(graph, pairs, setting(Scripted(Score(0.7))), Allowance()))

    plain = asking()
    assert await adrive(compare(graph, pairs, setting(Scripted(Score(0.7))), Allowance())) == plain
    assert (graph.thoughts, graph.stats) == before
