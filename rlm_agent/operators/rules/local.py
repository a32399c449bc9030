"""Local scores: what is known of solutions from those next to them, mixed into their global scores.

Source: LLaMA-Berry (Zhang et al., arXiv 2410.02884), see `ranking`.
"""

import math

import numpy as np
import numpy.typing as npt

from rlm_agent.operators.rules.column import Column

Numbers = npt.NDArray[np.float64]


class LocalScores:
    """Q_l of a growing number of thoughts: the mean of P against those neighbours of whom it is known.

    α · Q_g + (1 − α) · Q_l is kept as a factor of Q_g and what is added to it: 1 and 0 without a Q_l.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._known: list[list[float]] = []
        self._factor = Column(np.float64)
        self._added = Column(np.float64)

    def add(self) -> None:
        """One more thought, of whom nothing is known."""
        self._known.append([])
        self._factor.append(1.0)
        self._added.append(0.0)

    def note(self, one: int, p: float) -> None:
        """P of a thought against another one of its neighbours."""
        known = self._known[one]
        known.append(p)
        self._factor.all[one] = self._alpha
        self._added.all[one] = (1 - self._alpha) * (math.fsum(known) / len(known))

    def mixed(self, overall: Numbers) -> Numbers:
        """The global scores Q_g with the local ones mixed in, in place; shape (n,)."""
        overall *= self._factor.all
        overall += self._added.all
        return overall
