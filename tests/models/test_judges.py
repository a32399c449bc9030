"""Policies as judges: what they are asked, how their replies are read, and what becomes of unclear ones."""

import asyncio
import re
from collections.abc import Callable, Sequence

import pytest

from rlm_agent.models.fake import FakePolicy, Reply
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.judges import GRADE, PAIR, SURE, VOTE, JudgePreference, JudgeValue, Scale, VoteValue
from rlm_agent.models.patterns import read_choice, read_grade, read_word
from rlm_agent.models.protocols import (
    Candidate,
    Completion,
    Decoding,
    Message,
    Preference,
    Request,
    Score,
    Value,
)
from rlm_agent.structure.errors import InputError, PromptTooLongError
from tests.models.chains import candidate

CHAINS = [candidate("why", "one"), candidate("why", "two", "three")]
REFUSAL = "I cannot judge this."


def judge(reply: Callable[[str], str | Sequence[str]]) -> FakePolicy:
    """A policy that says of a question what `reply` does, or draws from it."""

    def script(question: str, prefix: str) -> list[Reply]:
        said = reply(question)
        return [(text, 0.0, True) for text in ([said] if isinstance(said, str) else said)]

    return FakePolicy(script)


def shown(question: str) -> list[str]:
    """The attempts in a question, in order."""
    return re.findall(r"Attempt \d+:\n((?:(?!\n\n).)*)", question, re.DOTALL)


def picking(wanted: str) -> FakePolicy:
    """Whichever place it stands in, this attempt is picked."""
    return judge(lambda question: f"The best choice is {shown(question).index(wanted) + 1}")


def values(scores: Sequence[Score]) -> list[float]:
    assert [score.error for score in scores] == [None] * len(scores)
    return [score.value for score in scores]


def both(value: Value, candidates: Sequence[Candidate]) -> list[Score]:
    """The scores, which are the same in both colours."""
    scores = value.score(candidates)
    assert asyncio.run(value.ascore(candidates)) == scores
    return scores


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("Grade: 7", 7),
        ("grade 3", 3),
        ("The score is 8.5.", 8.5),
        ("**Grade:** 10", 10),
        ("Grade: 2\nNo, wait.\nGrade: 9", 9),
        ("I give it 6/10", 6),
        ("6 out of 10, as 3 steps are right", 6),
        ("7", 7),
        ("There are 3 steps.\nGrade: 4/10", 4),
        ("Grade: 0", None),
        ("Grade: 85", None),
        ("Grade: -5", None),
        ("Grade: 8th", None),
        ("On a scale of 1-10 this is hard", None),
        ("Grade (1-10): good", None),
        ("2 or 3", None),
        ("Grade: five", None),
        (REFUSAL, None),
        ("", None),
        ("Grade: " + "9" * 400, None),
        ("v1.5", None),
    ],
)
def test_grades_are_read_where_they_are_clear(reply: str, grade: float | None) -> None:
    assert read_grade(reply, 1, 10) == grade


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        ("sure", "sure"),
        ("5 + 6 = 11\nSure.", "sure"),
        ("It is likely, or sure?\nimpossible", "impossible"),
        ("It is likely.\nThat is all.", "likely"),
        ("likely or sure", None),
        ("I am not sure.", None),
        ("unlikely", None),
        ("I'm sure.\nNo: it isn't likely.\nimpossible", "impossible"),
        (REFUSAL, None),
        ("", None),
    ],
)
def test_words_are_read_where_they_are_clear(reply: str, word: str | None) -> None:
    assert read_word(reply, ("sure", "likely", "impossible")) == word


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("The best choice is 2", 2),
        ("The best choice is **3**.", 3),
        ("The best choice is attempt 1, as 2 is wrong.", 1),
        ("1 is bad.\n2", 2),
        ("The best choice is 4", None),
        ("The best choice is 0", None),
        ("The best choice is 1.5", None),
        ("1 or 2", None),
        (REFUSAL, None),
    ],
)
def test_choices_are_read_where_they_are_clear(reply: str, choice: int | None) -> None:
    assert read_choice(reply, 1, 3) == choice


def test_a_value_is_the_mean_grade() -> None:
    policy = judge(lambda question: "Grade: 10" if "three" in question else "Grade: 4")
    value = JudgeValue(policy)
    assert isinstance(value, Value)
    assert values(both(value, CHAINS)) == pytest.approx([1 / 3, 1.0])
    turns = FakePolicy(lambda question, prefix: [(f"Grade: {n}", 0.0, True) for n in (1, 10, 4)], cycle=True)
    assert values(JudgeValue(turns).score(CHAINS[:1])) == pytest.approx([4 / 9])


def test_sure_likely_and_impossible_are_worth_twenty_one_and_nearly_nothing() -> None:
    replies = iter(["sure", "likely", "impossible"])
    (score,) = JudgeValue(judge(lambda question: next(replies)), SURE).score(CHAINS[:1])
    assert score.value == pytest.approx((20 + 1 + 0.001) / 3 / 20)


def test_the_judge_is_asked_in_these_words() -> None:
    policy = judge(lambda question: "Grade: 5")
    system, user = Message(role="system", content="Be brief."), Message(role="user", content="{steps}?")
    JudgeValue(policy, samples=1).score([Candidate((system, user), ("{question}", "two"), False)])
    (request,) = policy.requests
    assert request.messages[0]["content"].startswith(
        "Question:\n{steps}?\n\nSolution so far:\n{question}\ntwo\n\nIs this solution right as far as it goes"
    )
    assert len(request.messages) == 1 and request.prefix == ""
    assert request.max_tokens == 512 and request.decoding == policy.decoding


def test_unreadable_replies_are_left_out_and_told_where_there_is_no_other() -> None:
    turns = FakePolicy(lambda question, prefix: [(REFUSAL, 0.0, True), ("Grade: 10", 0.0, True)], cycle=True)
    assert values(JudgeValue(turns).score(CHAINS[:1])) == [1.0]
    policy = judge(lambda question: REFUSAL if "three" in question else "Grade: 10")
    fine, refused = both(JudgeValue(policy), CHAINS)
    assert fine.value == 1.0 and fine.error is None
    assert refused.error == f"the judge's reply holds no judgement: {REFUSAL!r}"
    assert refused.value == 0.0 and refused.prompt_tokens > 0
    assert (refused.calls, refused.tokens) == (3, 3 * (len(REFUSAL.split()) + 1))


def test_a_failed_reply_is_told_and_harms_no_other() -> None:
    policy = FakePolicy(lambda question, prefix: [("Grade: 10", 0.0, True)], fails={0: "busy", 1: "busy"})
    scores = JudgeValue(policy, samples=2).score(CHAINS)
    assert [(score.value, score.error) for score in scores] == [(0.0, "busy"), (1.0, None)]


class Broken(FakePolicy):
    """Breaks off behind what looks like a judgement."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [Completion("Grade: 1", 2, 0.0, "error", error="broke off") for _ in requests]


def test_what_a_failed_reply_says_does_not_count() -> None:
    (score,) = JudgeValue(Broken(lambda question, prefix: [])).score(CHAINS[:1])
    assert score.error == "broke off"


class Deaf(FakePolicy):
    """Sends too few replies, and refuses long questions altogether."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        if any("long" in request.messages[0]["content"] for request in requests):
            raise PromptTooLongError("the prompt has too many tokens; shorten the question")
        return super().generate(requests)[1:] if len(requests) == 1 else super().generate(requests)


def test_too_few_replies_are_an_error() -> None:
    (score,) = both(JudgeValue(Deaf(lambda question, prefix: [("Grade: 10", 0.0)]), samples=1), CHAINS[:1])
    assert score.error == "the judge sent 0 replies to 1 questions"


def test_a_question_that_does_not_fit_harms_no_other() -> None:
    policy = Deaf(lambda question, prefix: [("Grade: 10", 0.0, True)])
    scores = both(JudgeValue(policy), [CHAINS[0], candidate("why", "long"), CHAINS[1]])
    assert [score.value for score in scores] == [1.0, 0.0, 1.0]
    assert "too many tokens" in str(scores[1].error)
    for score in both(VoteValue(policy), [CHAINS[0], candidate("why", "long")]):
        assert "too many tokens" in str(score.error)


@pytest.mark.parametrize("make", [JudgeValue, VoteValue])
def test_a_judgement_depends_on_what_is_asked_and_the_seed_alone(make: type[JudgeValue | VoteValue]) -> None:
    replies = [f"Grade: {number}\nThe best choice is {number % 2 + 1}" for number in range(1, 11)]
    policy = judge(lambda question: replies)
    chains = [candidate(f"why {number}", *steps) for number in range(8) for steps in (["b", "c"], ["a"])]
    scores = values(both(make(policy), chains))
    assert len(set(scores)) > 2
    assert values(make(policy).score(chains[::-1])) == scores[::-1]
    for start in range(0, 16, 2):
        assert values(make(policy).score(chains[start : start + 2])) == scores[start : start + 2]
    assert values(make(policy, seed=1).score(chains)) != scores
    assert make(policy).identity == make(policy).identity != make(policy, seed=1).identity


def test_seeds_differ_between_samples_and_chains() -> None:
    policy = judge(lambda question: "Grade: 10")
    JudgeValue(policy).score(CHAINS)
    assert len({request.seed for request in policy.requests}) == 6
    assert all(0 <= request.seed < 2**63 for request in policy.requests)


def test_votes_are_shares_wherever_a_chain_stands() -> None:
    chains = [candidate("why", step) for step in ("a", "b", "c")]
    policy = picking("b")
    assert values(both(VoteValue(policy), chains)) == [0, 1, 0]
    assert len({tuple(shown(request.messages[0]["content"])) for request in policy.requests}) > 1
    first = judge(lambda question: "The best choice is 1")
    shares = values(VoteValue(first, samples=60).score(chains))
    assert sum(shares) == pytest.approx(1) and all(share > 0.15 for share in shares)


def test_equal_chains_share_their_votes_and_conversations_are_apart() -> None:
    policy = picking("b")
    chains = [
        candidate("why", "a"),
        candidate("how", "c"),
        candidate("why", "b"),
        candidate("why", "b", final=True),
    ]
    scores = both(VoteValue(policy), chains)
    assert values(scores) == [0, 1, 1, 1]
    assert scores[0].prompt_tokens > 0 and scores[1].prompt_tokens == scores[2].prompt_tokens == 0
    assert all(set(shown(request.messages[0]["content"])) == {"a", "b"} for request in policy.requests)
    policy.requests.clear()
    assert values(VoteValue(policy).score(chains[2:])) == [1, 1] and policy.requests == []


def test_votes_that_cannot_be_read_are_left_out() -> None:
    replies = iter([REFUSAL, "The best choice is 3", "The best choice is 1"])
    assert sorted(values(VoteValue(judge(lambda question: next(replies))).score(CHAINS))) == [0, 1]
    for score in both(VoteValue(judge(lambda question: REFUSAL)), CHAINS):
        assert "holds no judgement" in str(score.error)
    assert both(VoteValue(judge(lambda question: "1")), []) == []


def test_a_preference_asks_both_orders() -> None:
    pair = (CHAINS[0], CHAINS[1])
    better = JudgePreference(picking("two\nthree"), samples=1)
    assert isinstance(better, Preference)
    assert values(better.prefer([pair, pair[::-1]])) == [0, 1]
    assert values(asyncio.run(better.aprefer([pair, pair[::-1]]))) == [0, 1]
    for reply in ("The best choice is 1", "The best choice is 2", "The best choice is 0"):
        biased = JudgePreference(judge(lambda question, reply=reply: reply), samples=2)  # type: ignore[misc]
        assert values(biased.prefer([pair])) == [0.5]


def test_a_preference_and_its_reverse_add_up_to_one() -> None:
    replies = ["The best choice is 1", "The best choice is 2", "The best choice is 0", REFUSAL]
    value = JudgePreference(judge(lambda question: replies), samples=5)
    pairs = [(candidate(f"why {number}", "a"), candidate(f"why {number}", "b")) for number in range(6)]
    there = values(value.prefer(pairs))
    back = values(value.prefer([(second, first) for first, second in pairs]))
    assert [sum(both) for both in zip(there, back, strict=True)] == pytest.approx([1] * len(pairs))
    assert len(set(there)) > 2
    assert values(value.prefer([(CHAINS[0], CHAINS[0])])) == [0.5]


def test_a_preference_read_in_one_order_only_is_an_error() -> None:
    policy = judge(lambda question: "The best choice is 1" if shown(question)[0] == "one" else REFUSAL)
    (score,) = JudgePreference(policy).prefer([(CHAINS[0], CHAINS[1])])
    assert "holds no judgement" in str(score.error) and score.value == 0.0


def test_what_cannot_judge_is_refused() -> None:
    policy = judge(lambda question: "Grade: 5")
    for sampling in ({"samples": 0}, {"max_tokens": 0}):
        with pytest.raises(InputError, match="give at least 1 sample and 1 token"):
            JudgeValue(policy, **sampling)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"leaves the chain out; write .steps. in it"):
        Scale("Is it right?")
    with pytest.raises(InputError, match=r"write .choices. in it"):
        VoteValue(policy, "Which?")
    with pytest.raises(InputError, match=r"write .choices. in it"):
        JudgePreference(policy, "Which?")
    for scale in ({"words": (("sure", 20.0),)}, {"low": 1, "high": 1}):
        with pytest.raises(InputError, match="leads to"):
            Scale("{steps}", **scale)


def test_what_is_asked_and_how_stands_in_the_identity() -> None:
    policy = judge(lambda question: "Grade: 5")
    judges: list[Value | Preference] = [
        JudgeValue(policy),
        JudgeValue(policy, SURE),
        JudgeValue(policy, GRADE, samples=1),
        JudgeValue(policy, decoding=Decoding(temperature=0)),
        VoteValue(policy),
        VoteValue(policy, VOTE + "!"),
        JudgePreference(policy, VOTE),
        JudgePreference(policy, PAIR),
    ]
    assert len({judge.identity for judge in judges}) == len(judges)


def test_a_local_model_judges_alike_alone_and_in_company(policy: GGUFPolicy) -> None:
    scale = Scale("{steps} ?", (("?", 1.0), ("+", 0.5)))
    value = JudgeValue(policy, scale, samples=2, max_tokens=8)
    together = value.score([*CHAINS, candidate("why", "1 " * 400)])
    assert "tokens" in str(together[2].error)
    for chain, score in zip(CHAINS, together, strict=False):
        (alone,) = value.score([chain])
        assert (score.value, score.error) == (alone.value, alone.error)
