"""How much a search may spend, what it has spent, and what is left."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate, pairwise
from typing import TypedDict

from rlm_agent.structure.errors import BudgetError


class Usage(TypedDict):
    """What a search has spent so far.

    `prompt_tokens` were computed and `cached_tokens` reused by the policy, `completion_tokens` generated;
    `model_calls` counts requests (one sampled continuation or one scored candidate each), `nodes` the
    thoughts generated, `seconds` the time inside the search, interruptions not counted.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    model_calls: int
    nodes: int
    seconds: float


def no_usage() -> Usage:
    """Nothing spent."""
    return Usage(prompt_tokens=0, cached_tokens=0, completion_tokens=0, model_calls=0, nodes=0, seconds=0.0)


def add_usage(first: Usage, second: Usage) -> Usage:
    """The sum, field by field."""
    return Usage(
        prompt_tokens=first["prompt_tokens"] + second["prompt_tokens"],
        cached_tokens=first["cached_tokens"] + second["cached_tokens"],
        completion_tokens=first["completion_tokens"] + second["completion_tokens"],
        model_calls=first["model_calls"] + second["model_calls"],
        nodes=first["nodes"] + second["nodes"],
        seconds=first["seconds"] + second["seconds"],
    )


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper bounds on one question's search; None means unbounded. They are never exceeded.

    `tokens` bounds generated tokens, `calls` model calls, `nodes` thoughts beside the root, `seconds` the
    time after which no further model call is begun. Raises `BudgetError` for a bound that is not above 0.
    """

    tokens: int | None = None
    calls: int | None = None
    nodes: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            bound = getattr(self, field.name)
            if bound is None:
                continue
            number = isinstance(bound, int | float) and not isinstance(bound, bool)
            if not number or math.isnan(bound) or bound <= 0:
                raise BudgetError(
                    f"a budget of {bound!r} {field.name} allows nothing; give a number above 0, or None"
                )
            if field.name != "seconds" and not isinstance(bound, int):
                raise BudgetError(f"a budget of {bound!r} {field.name} is not whole; give an integer")

    def left(self, usage: Usage) -> "Allowance":
        """What remains after `usage`."""
        return Allowance(
            tokens=math.inf if self.tokens is None else self.tokens - usage["completion_tokens"],
            calls=math.inf if self.calls is None else self.calls - usage["model_calls"],
            nodes=math.inf if self.nodes is None else self.nodes - usage["nodes"],
            seconds=math.inf if self.seconds is None else self.seconds - usage["seconds"],
        )


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a budget leaves; infinite where it sets no bound."""

    tokens: float = math.inf
    calls: float = math.inf
    nodes: float = math.inf
    seconds: float = math.inf

    @property
    def spent(self) -> str | None:
        """The first bound that is used up, or None."""
        return next((name for name in self.__slots__ if getattr(self, name) <= 0), None)

    def less(self, usage: Usage) -> "Allowance":
        """What remains of this allowance after `usage`."""
        return Allowance(
            tokens=self.tokens - usage["completion_tokens"],
            calls=self.calls - usage["model_calls"],
            nodes=self.nodes - usage["nodes"],
            seconds=self.seconds - usage["seconds"],
        )

    def divided(self, wanted: Sequence["Allowance"]) -> list["Allowance"]:
        """What each of several may spend at the same time, who want so much at most.

        Each bound is divided in proportion to what is wanted of it, and the parts add up to the whole, to the
        last token. The seconds are the same for all, as they run side by side.
        """

        def parts(name: str) -> Iterator[float]:
            left = getattr(self, name)
            ends = list(accumulate((getattr(one, name) for one in wanted), initial=0))
            for begin, end in pairwise(ends):
                if begin == end:
                    yield 0
                elif left == math.inf:
                    yield left
                else:
                    yield left * end // ends[-1] - left * begin // ends[-1]

        bounds = zip(parts("tokens"), parts("calls"), parts("nodes"), strict=True)
        return [Allowance(*part, seconds=self.seconds) for part in bounds]

    def offers(self, wanted: "Allowance") -> bool:
        """Whether there is time left, and some of all that is wanted."""
        bounds = ("tokens", "calls", "nodes")
        return self.seconds > 0 and all(getattr(self, one) > 0 or not getattr(wanted, one) for one in bounds)

    def samples(self, wanted: int, max_tokens: int, *, nodes: int = 1, calls: int = 1) -> tuple[int, int]:
        """How many of the `wanted` samples fit, and the most tokens that each may take.

        Each makes so many thoughts (`nodes`) and takes so many `calls`. Samples are dropped before they are
        shortened: a thought cut off in the middle helps nobody.
        """
        if self.spent is not None:
            return 0, 0
        count = min(wanted, self.calls // calls, self.nodes // nodes if nodes else math.inf)
        if self.tokens < count * max_tokens:
            count = min(count, max(1, self.tokens // max_tokens))
        return int(count), int(min(max_tokens, self.tokens))
