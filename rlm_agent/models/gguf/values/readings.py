"""What is read after a prompt: the probability of a label against another, or a value head's value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np

from rlm_agent.models.gguf.engine.jobs import Result
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.gguf.values.heads import ValueHead
from rlm_agent.structure.errors import InputError


class Reading(Protocol):
    """Reads a value off a look at what stands after a prompt."""

    @property
    def hidden(self) -> bool:
        """Whether the hidden state is needed."""

    def __call__(self, results: Sequence[Result], /) -> list[float]:
        """Of each look the value in [0, 1], or NaN where there is nothing to read."""


@dataclass(frozen=True, slots=True)
class LabelReading:
    """P(good) / (P(good) + P(bad)) of two tokens."""

    good: int
    bad: int
    hidden: ClassVar[bool] = False

    @classmethod
    def of(cls, file: ModelFile, good: str, bad: str) -> Self:
        """By the first tokens of two labels; `InputError` where these are the same or there is none."""
        reading = cls(_first_token(file, good), _first_token(file, bad))
        if reading.good == reading.bad:
            raise InputError(f"the labels {good!r} and {bad!r} begin with the same token; choose others")
        return reading

    def __call__(self, results: Sequence[Result]) -> list[float]:
        """See `Reading`."""
        return [self._read(result) for result in results]

    def _read(self, result: Result) -> float:
        if result.logits is None:
            return math.nan
        lead = float(result.logits[self.good]) - float(result.logits[self.bad])
        return 0.5 * (1 + math.tanh(0.5 * lead))


@dataclass(frozen=True, slots=True)
class HeadReading:
    """What a value head makes of the hidden state."""

    head: ValueHead
    hidden: ClassVar[bool] = True

    def __call__(self, results: Sequence[Result]) -> list[float]:
        """See `Reading`."""
        values = [math.nan] * len(results)
        rows = {at: row for at, each in enumerate(results) if (row := each.hidden) is not None}
        sound = [at for at, row in rows.items() if np.isfinite(row).all()]
        if sound:
            for at, value in zip(sound, self.head.apply(np.stack([rows[at] for at in sound])), strict=True):
                values[at] = float(value)
        return values


def _first_token(file: ModelFile, label: str) -> int:
    tokens = file.tokenize(label)
    if not tokens:
        raise InputError("a label is empty; give both of them a text")
    return tokens[0]
