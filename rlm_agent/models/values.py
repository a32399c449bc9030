"""Values without a model of their own: rollouts, verifiers, heuristics, and several values as one."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from rlm_agent.models.drive import Asking, adrive, ask_value, drive
from rlm_agent.models.protocols import (
    Candidate,
    Preference,
    Score,
    Value,
    is_composite,
)
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.steps import Steps, Verifier

_Weighted = Sequence[tuple[float, float]]
"""(value, weight) of each part that has one."""

_NO_END = "the chain has not come to its end"

_WAYS: dict[str, Callable[[_Weighted], float]] = {
    "mean": lambda parts: (
        math.fsum(value * weight for value, weight in parts) / math.fsum(weight for _, weight in parts)
    ),
    "min": lambda parts: min(value for value, _ in parts),
    "max": lambda parts: max(value for value, _ in parts),
    "product": lambda parts: math.prod(value for value, _ in parts),
}


class MixedValue:
    """The `mean` (by `weights`, or even), `min`, `max` or `product` of what several values say of a chain.

    A part that fails on a chain, or says what is no number, is left out for that chain; only where all fail
    the score is an error, which names their reasons. So is a part that sends too few or too many scores, for
    all chains. What a part raises is raised.

    Raises `UnknownNameError` for another `how`, and `InputError` without values or for weights that are not
    one positive number a value, or stand beside another `how` than `mean`.
    """

    def __init__(
        self, values: Sequence[Value], how: str = "mean", *, weights: Sequence[float] | None = None
    ) -> None:
        if how not in _WAYS:
            raise UnknownNameError(f"there is no mixture {how!r}; choose one of {', '.join(_WAYS)}")
        self.values = tuple(values)
        self.how = how
        self.weights = _weights(len(self.values), how, weights)
        parts = ",".join(
            f"{weight!r}*{value.identity}" for value, weight in zip(self.values, self.weights, strict=True)
        )
        self.identity = f"mixed:{how}({parts})"
        self.most_calls = sum(most_of(value)[0] for value in self.values)
        self.most_tokens = sum(most_of(value)[1] for value in self.values)

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate, in order."""
        return drive(self._scoring(candidates))

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same without blocking the event loop."""
        return await adrive(self._scoring(candidates))

    def _scoring(self, candidates: Sequence[Candidate]) -> Asking[list[Score]]:
        said = []
        for value in self.values:
            scores = yield from ask_value(value, candidates)
            if len(scores) != len(candidates):
                scores = [Score(0.0, error=too_few(scores, candidates))] * len(candidates)
            said.append(scores)
        return [self._mixed(parts) for parts in zip(*said, strict=True)]

    def _mixed(self, scores: Sequence[Score]) -> Score:
        known, faults = [], []
        for score, weight in zip(scores, self.weights, strict=True):
            if (fault := fault_of(score)) is None:
                known.append((min(1.0, max(0.0, score.value)), weight))
            else:
                faults.append(fault)
        return Score(
            _WAYS[self.how](known) if known else 0.0,
            prompt_tokens=sum(score.prompt_tokens for score in scores),
            error=None if known else "; ".join(dict.fromkeys(faults)),
            tokens=sum(score.tokens for score in scores),
            calls=sum(score.calls for score in scores),
        )


def fault_of(score: Score) -> str | None:
    """Why a score is none; None for a good one."""
    if score.error is not None:
        return score.error
    return None if math.isfinite(score.value) else "a value is no number"


def _weights(count: int, how: str, weights: Sequence[float] | None) -> tuple[float, ...]:
    if not count:
        raise InputError("there is no value to mix; give at least one")
    if weights is None:
        return (1.0,) * count
    if how != "mean":
        raise InputError(f"weights mean nothing to {how!r}; leave them out, or mix by 'mean'")
    if len(weights) != count or not all(0 < weight < math.inf for weight in weights):
        raise InputError(
            f"the weights {list(weights)} do not fit {count} values; give one positive number each"
        )
    return tuple(float(weight) for weight in weights)


class FunctionValue:
    """A heuristic: a function from the question and the steps so far to a number in [0, 1].

    No model is asked, so that it costs nothing. Numbers beyond the bounds are brought within; where the
    function raises or returns no number, that chain alone is in error. `name` stands for it in a run's
    identity.
    """

    most_calls = 0
    most_tokens = 0

    def __init__(self, function: Callable[[str, Sequence[str]], float], name: str | None = None) -> None:
        self.identity = f"function:{name or getattr(function, '__qualname__', type(function).__name__)}"
        self._function = function

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate, in order."""
        return [_guarded(partial(self._function, question_to(one), one.steps)) for one in candidates]

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same; nothing here blocks."""
        return self.score(candidates)


class VerifierValue:
    """1 for a finished chain whose answer a verifier accepts, else 0.

    Unfinished chains are in error: of them it knows nothing. No model is asked. `steps` finds the answer.
    """

    most_calls = 0
    most_tokens = 0

    def __init__(self, verifier: Verifier, steps: Steps, name: str = "verifier") -> None:
        self.identity = f"verifier:{name}"
        self._verifier, self._steps = verifier, steps

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate, in order."""
        return [
            _guarded(partial(self._judge, one)) if one.final else Score(0.0, error=_NO_END, calls=0)
            for one in candidates
        ]

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same; nothing here blocks."""
        return self.score(candidates)

    def _judge(self, candidate: Candidate) -> float:
        question, steps = question_to(candidate), self._steps
        answer = steps.answer(question, steps.granularity.for_answer(candidate.steps))
        return float(answer is not None and self._verifier(question, answer).correct)


def most_of(value: Value | Preference) -> tuple[int, int]:
    """The most calls and tokens of one score."""
    return (value.most_calls, value.most_tokens) if is_composite(value) else (1, 0)


def question_to(candidate: Candidate) -> str:
    """The question of a chain: what was said last."""
    return candidate.messages[-1]["content"]


def _guarded(function: Callable[[], float]) -> Score:
    """The score that a user's function gives, or an error in its place."""
    try:
        value = float(function())
    except Exception as error:  # noqa: BLE001  whatever it is, it harms no other chain
        return Score(0.0, error=f"the value raised {type(error).__name__}: {error}", calls=0)
    if not math.isfinite(value):
        return Score(0.0, error="the value is no number", calls=0)
    return Score(min(1.0, max(0.0, value)), calls=0)


def too_few(scores: Sequence[Score], candidates: Sequence[Candidate]) -> str:
    """The fault of a value that sent another number of scores than it was asked for."""
    return f"a value sent {len(scores)} scores for {len(candidates)} chains"
