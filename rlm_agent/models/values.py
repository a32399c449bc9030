"""Several values as one."""

import math
from collections.abc import Callable, Sequence

from rlm_agent.models.drive import Asking, adrive, ask_value, drive
from rlm_agent.models.protocols import Candidate, Score, Value
from rlm_agent.structure.errors import InputError, UnknownNameError

_Weighted = Sequence[tuple[float, float]]
"""(value, weight) of each part that has one."""

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
                fault = f"a value sent {len(scores)} scores for {len(candidates)} chains"
                scores = [Score(0.0, error=fault)] * len(candidates)
            said.append(scores)
        return [self._mixed(parts) for parts in zip(*said, strict=True)]

    def _mixed(self, scores: Sequence[Score]) -> Score:
        cost = sum(score.prompt_tokens for score in scores)
        known, faults = [], []
        for score, weight in zip(scores, self.weights, strict=True):
            if (fault := _fault(score)) is None:
                known.append((min(1.0, max(0.0, score.value)), weight))
            else:
                faults.append(fault)
        if not known:
            return Score(0.0, cost, "; ".join(dict.fromkeys(faults)))
        return Score(_WAYS[self.how](known), cost)


def _fault(score: Score) -> str | None:
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
