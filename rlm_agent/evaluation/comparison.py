"""The rows of a comparison: accuracy with its interval, what it cost, and how it differs from a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlm_agent.evaluation.metrics import mcnemar, paired_difference, wilson
from rlm_agent.evaluation.runs import Cell, Result
from rlm_agent.evaluation.strategies import UNBOUNDED
from rlm_agent.structure.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Difference:
    """A row against the baseline, at the same budget and over the same problems.

    `accuracy` is the row's less the baseline's, with its 95% interval (`paired_difference`); `p_value` is
    that of `mcnemar`, for this comparison alone.
    """

    accuracy: float
    ci95: tuple[float, float]
    p_value: float


@dataclass(frozen=True, slots=True)
class Row:
    """A cell's figures: accuracy with its 95% interval, mean generated tokens and seconds a problem."""

    strategy: str
    budget_tokens: int
    accuracy: float
    ci95: tuple[float, float]
    completion_tokens_mean: float
    seconds_mean: float
    difference: Difference | None
    """None for the baseline itself."""


def compare(results: Mapping[Cell, Sequence[Result]], baseline: str) -> list[Row]:
    """The row of each cell against the cell of the strategy `baseline` at the same budget.

    All cells have results of the same problems in the same order, at least one.
    """
    return [
        _row(cell, found, None if cell.strategy == baseline else results[Cell(baseline, cell.budget_tokens)])
        for cell, found in results.items()
    ]


def choose_baseline(strategies: Sequence[str], name: str | None) -> str:
    """The strategy of that text or, failing that, the first of that name; raises `UnknownNameError`.

    Without a name it is independent sampling where that is among them, the simplest ancestor of all search,
    else the first.
    """
    if name is None:
        sampling = f"best_of_n:{UNBOUNDED['best_of_n']}"
        return sampling if sampling in strategies else strategies[0]
    named = [text for text in strategies if text.partition(":")[0] == name]
    if name not in strategies and not named:
        raise UnknownNameError(
            f"the baseline {name!r} is not compared; choose one of {', '.join(strategies)}"
        )
    return name if name in strategies else named[0]


def _row(cell: Cell, results: Sequence[Result], baseline: Sequence[Result] | None) -> Row:
    count = len(results)
    solved = sum(bool(result.verified) for result in results)
    return Row(
        strategy=cell.strategy,
        budget_tokens=cell.budget_tokens,
        accuracy=solved / count,
        ci95=_rounded(wilson(solved, count)),
        completion_tokens_mean=round(sum(r.completion_tokens for r in results) / count, 1),
        seconds_mean=round(sum(r.seconds for r in results) / count, 4),
        difference=None if baseline is None else _difference(results, baseline),
    )


def _difference(results: Sequence[Result], baseline: Sequence[Result]) -> Difference:
    pairs = [(bool(one.verified), bool(other.verified)) for one, other in zip(results, baseline, strict=True)]
    both, first, second, neither = (
        pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))
    )
    return Difference(
        accuracy=round((first - second) / len(pairs), 4),
        ci95=_rounded(paired_difference(both, first, second, neither)),
        p_value=mcnemar(first, second),
    )


def _rounded(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    return round(low, 4), round(high, 4)
