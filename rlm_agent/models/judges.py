"""Any policy as a judge: it is asked in words, writes its judgement, and the judgement is read.

A reply that cannot be read is no judgement, never a middling one; a chain is in error where no reply about it
can be read. Seeds follow from what is asked, so that a judgement is the same in any company.
"""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Generic, TypedDict, TypeVar

from typing_extensions import Unpack

from rlm_agent.models.drive import Asking, adrive, ask_policy, drive
from rlm_agent.models.patterns import (
    digest,
    fill,
    list_choices,
    question_of,
    read_choice,
    read_grade,
    read_word,
    require_places,
)
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Candidate, Completion, Decoding, Message, Policy, Request, Score
from rlm_agent.structure.errors import InputError, PromptTooLongError
from rlm_agent.structure.ids import derive_seed

T = TypeVar("T")
Chain = tuple[str, ...]
_SHOWN = 80
"""How many letters of a reply an error shows."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What a judge is asked of one chain, and what its answers are worth in [0, 1].

    In `ask`, `{question}` and `{steps}` stand for the conversation's contents without the system's and for
    the steps, a line each. `words` are the answers and their worth; without any, the answer is a number from
    `low` to `high`, which are worth 0 and 1. Raises `InputError` for an `ask` without `{steps}`, for words
    worth less than 0 or more than 1, and for a `low` that is not below `high`.
    """

    ask: str
    words: tuple[tuple[str, float], ...] = ()
    low: float = 1.0
    high: float = 10.0

    def __post_init__(self) -> None:
        require_places(self.ask, "steps")
        if not all(0 <= worth <= 1 for _, worth in self.words) or not self.low < self.high:
            raise InputError("a scale leads to [0, 1]; give words such a worth, and a low below the high")

    def text(self, candidate: Candidate) -> str:
        """The question put to the judge."""
        steps = "\n".join(candidate.steps)
        return fill(self.ask, question=question_of(candidate.messages), steps=steps)

    def read(self, reply: str) -> float | None:
        """What a reply is worth; None for one that says nothing, or nothing clear."""
        if self.words:
            worth = dict(self.words)
            word = read_word(reply, tuple(worth))
            return None if word is None else worth[word]
        grade = read_grade(reply, self.low, self.high)
        return None if grade is None else (grade - self.low) / (self.high - self.low)


GRADE = Scale(
    "Question:\n{question}\n\nSolution so far:\n{steps}\n\n"
    "Is this solution right as far as it goes, and how likely does it lead to the right answer? Think "
    "briefly, then end with one line: Grade: N, where N is a number from 1 (wrong) to 10 (certainly right)."
)
"""A grade from 1 to 10 (single answer grading, Zheng et al., arXiv 2306.05685)."""

SURE = Scale(
    "Question:\n{question}\n\nSolution so far:\n{steps}\n\n"
    "Can the right answer be reached from here? Think briefly, then end with one line that holds one word "
    "only: sure, likely or impossible.",
    (("sure", 1.0), ("likely", 1 / 20), ("impossible", 0.001 / 20)),
)
"""Sure, likely or impossible, worth 20, 1 and .001 (Yao et al., arXiv 2305.10601, and the authors' code).

Deviations: the authors sum over samples; here it is the mean, over 20, which keeps the order where all
replies can be read, and lies in [0, 1]. They show worked examples of one task; here there are none.
"""

VOTE = (
    "Question:\n{question}\n\n{choices}\n\n"
    "These are attempts at the question, perhaps unfinished. Which one is the most promising? Compare them "
    "briefly, then end with one line: The best choice is N, where N is its number."
)
"""One vote for the most promising of several chains (Yao et al., arXiv 2305.10601)."""

PAIR = Prompts().require("prefer")
"""A comparison of two chains (pairwise comparison with ties, Zheng et al., arXiv 2306.05685)."""


class Sampling(TypedDict, total=False):
    """How a judge's replies are drawn.

    samples: replies to each question (3); for a comparison, to each order.
    max_tokens: of each reply (512).
    decoding: as the policy is best drawn from, by default.
    seed: what the seeds follow from, with the question and a number (0).
    """

    samples: int
    max_tokens: int
    decoding: Decoding | None
    seed: int


class _Judge(ABC, Generic[T]):
    """Puts questions to a policy and makes scores of its replies."""

    _apart = True
    """Whether each thing is judged by itself, so that one that does not fit harms no other."""

    def __init__(self, policy: Policy, ask: str, sampling: Sampling) -> None:
        self.policy = policy
        self.samples = sampling.get("samples", 3)
        self.max_tokens = sampling.get("max_tokens", 512)
        self.decoding = sampling.get("decoding") or policy.decoding
        self.seed = sampling.get("seed", 0)
        if self.samples < 1 or self.max_tokens < 1:
            raise InputError("a judge that says nothing cannot judge; give at least 1 sample and 1 token")
        settings = digest(repr((ask, self.samples, self.max_tokens, self.decoding, self.seed)))
        self.identity = f"{policy.identity}:{type(self).__name__}={settings}"

    def _judge(self, things: Sequence[T]) -> list[Score]:
        try:
            return drive(self._judging(things))
        except PromptTooLongError as error:
            if len(things) == 1 or not self._apart:
                return [Score(0.0, error=str(error))] * len(things)
        return [score for thing in things for score in self._judge([thing])]

    async def _ajudge(self, things: Sequence[T]) -> list[Score]:
        try:
            return await adrive(self._judging(things))
        except PromptTooLongError as error:
            if len(things) == 1 or not self._apart:
                return [Score(0.0, error=str(error))] * len(things)
        return [score for thing in things for score in await self._ajudge([thing])]

    @property
    def most_calls(self) -> int:
        """See `Composite`."""
        return self.samples

    @property
    def most_tokens(self) -> int:
        """See `Composite`."""
        return self.samples * self.max_tokens

    @abstractmethod
    def _judging(self, things: Sequence[T]) -> Asking[list[Score]]:
        """One score a thing."""

    def _ask(self, groups: Sequence[Sequence[str]]) -> Asking[list[list[Completion]]]:
        """The replies to groups of questions, all asked in one batch; in a group, each has its own seed."""
        requests = [self._request(text, number) for texts in groups for number, text in enumerate(texts)]
        replies = yield from ask_policy(self.policy, requests)
        if len(replies) != len(requests):
            fault = f"the judge sent {len(replies)} replies to {len(requests)} questions"
            replies = [Completion("", 0, 0.0, "error", error=fault)] * len(requests)
        left = iter(replies)
        return [[next(left) for _ in texts] for texts in groups]

    def _request(self, text: str, number: int) -> Request:
        seed = derive_seed(self.seed, digest(text), number)
        messages = (Message(role="user", content=text),)
        return Request(messages, "", self.max_tokens, seed, decoding=self.decoding)


class JudgeValue(_Judge[Candidate]):
    """A chain's value is the mean of what a policy, asked some times, says of it on a `scale`.

    Replies that cannot be read are left out. Raises `InputError` for less than one sample or token.
    """

    def __init__(self, policy: Policy, scale: Scale = GRADE, **sampling: Unpack[Sampling]) -> None:
        self.scale = scale
        super().__init__(policy, repr(astuple(scale)), sampling)

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate, in order."""
        return self._judge(candidates)

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same without blocking the event loop."""
        return await self._ajudge(candidates)

    def _judging(self, things: Sequence[Candidate]) -> Asking[list[Score]]:
        groups = yield from self._ask([[self.scale.text(chain)] * self.samples for chain in things])
        return [_mean_score(replies, _read(replies, self.scale.read)) for replies in groups]


class VoteValue(_Judge[Candidate]):
    """A chain's value is its share of a policy's votes among the chains that it is scored with.

    Each vote sees all different chains of one conversation, each time in another order, against a preference
    for a place; votes that cannot be read are left out. A value is therefore relative to its company: a
    chain without any has all votes, unasked, and if the chains do not fit the model together, none is scored.
    The first chain of a conversation bears the cost. Raises `InputError` for an `ask` without `{choices}`,
    and for less than one sample or token.
    """

    _apart = False

    def __init__(self, policy: Policy, ask: str = VOTE, **sampling: Unpack[Sampling]) -> None:
        require_places(ask, "choices")
        self.ask = ask
        super().__init__(policy, ask, sampling)

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate, in order."""
        return self._judge(candidates)

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same without blocking the event loop."""
        return await self._ajudge(candidates)

    def _judging(self, things: Sequence[Candidate]) -> Asking[list[Score]]:
        by_question: dict[str, list[int]] = {}
        for index, candidate in enumerate(things):
            by_question.setdefault(question_of(candidate.messages), []).append(index)
        scores: dict[int, Score] = {}
        for question, indices in by_question.items():
            chains = [things[index].steps for index in indices]
            scores |= zip(indices, (yield from self._vote(question, chains)), strict=True)
        return [scores[index] for index in range(len(things))]

    def _vote(self, question: str, chains: Sequence[Chain]) -> Asking[list[Score]]:
        rivals = sorted(set(chains))
        if len(rivals) == 1:
            return [Score(1.0, calls=0)] * len(chains)
        ballots = [self._shuffled(question, rivals, number) for number in range(self.samples)]
        (replies,) = yield from self._ask([[_choices(self.ask, question, ballot) for ballot in ballots]])
        picks = _read(replies, lambda reply: read_choice(reply, 1, len(rivals)))
        votes = [ballot[pick - 1] for ballot, pick in zip(ballots, picks, strict=True) if pick is not None]
        first, *others = (
            Score(votes.count(chain) / len(votes), calls=0)
            if votes
            else Score(0.0, error=_fault(replies), calls=0)
            for chain in chains
        )
        return [_priced(first, replies), *others]

    def _shuffled(self, question: str, rivals: Sequence[Chain], number: int) -> list[Chain]:
        seed = derive_seed(self.seed, digest(repr((question, rivals))), number)
        return random.Random(seed).sample(rivals, len(rivals))


class JudgePreference(_Judge[tuple[Candidate, Candidate]]):
    """P(first is better than second): how often a policy, shown both, picks the first; a tie counts half.

    Both orders are asked and their means averaged, against a preference for a place: P(a, b) + P(b, a) = 1.
    An order whose replies cannot be read leaves the pair in error. The question is the first chain's. Raises
    `InputError` for an `ask` without `{choices}`, and for less than one sample or token.
    """

    def __init__(self, policy: Policy, ask: str = PAIR, **sampling: Unpack[Sampling]) -> None:
        require_places(ask, "choices")
        self.ask = ask
        super().__init__(policy, ask, sampling)

    def prefer(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Score]:
        """One score a pair, in order."""
        return self._judge(pairs)

    async def aprefer(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Score]:
        """The same without blocking the event loop."""
        return await self._ajudge(pairs)

    @property
    def most_calls(self) -> int:
        """See `Composite`: both orders are asked."""
        return 2 * super().most_calls

    @property
    def most_tokens(self) -> int:
        """See `Composite`."""
        return 2 * super().most_tokens

    def _judging(self, things: Sequence[tuple[Candidate, Candidate]]) -> Asking[list[Score]]:
        texts = [
            [_choices(self.ask, question_of(first.messages), order)] * self.samples
            for first, second in things
            for order in ((first.steps, second.steps), (second.steps, first.steps))
        ]
        groups = yield from self._ask(texts)
        return [_preference(*orders) for orders in zip(groups[::2], groups[1::2], strict=True)]


def _preference(forth: Sequence[Completion], back: Sequence[Completion]) -> Score:
    means = []
    for replies in (forth, back):
        picks = [pick for pick in _read(replies, lambda reply: read_choice(reply, 0, 2)) if pick is not None]
        if not picks:
            return _priced(Score(0.0, error=_fault(replies)), [*forth, *back])
        means.append(math.fsum((0.5, 1.0, 0.0)[pick] for pick in picks) / len(picks))
    return _priced(Score((means[0] + 1 - means[1]) / 2), [*forth, *back])


def _choices(ask: str, question: str, chains: Sequence[Chain]) -> str:
    return fill(ask, question=question, choices=list_choices(chains))


def _read(replies: Sequence[Completion], read: Callable[[str], T | None]) -> list[T | None]:
    return [None if reply.error is not None else read(reply.text) for reply in replies]


def _mean_score(replies: Sequence[Completion], read: Sequence[float | None]) -> Score:
    known = [value for value in read if value is not None]
    score = Score(math.fsum(known) / len(known)) if known else Score(0.0, error=_fault(replies))
    return _priced(score, replies)


def _priced(score: Score, replies: Sequence[Completion]) -> Score:
    """The score with what the replies have cost."""
    return replace(
        score,
        prompt_tokens=sum(reply.prompt_tokens for reply in replies),
        tokens=sum(reply.tokens for reply in replies),
        calls=len(replies),
    )


def _fault(replies: Sequence[Completion]) -> str:
    """Why none of these replies could be read."""
    reply = replies[0]
    return reply.error or f"the judge's reply holds no judgement: {reply.text[-_SHOWN:]!r}"
