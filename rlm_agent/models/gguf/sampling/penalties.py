"""What changes logits before anything is cut: biases, and penalties for what was said already."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.protocols import Decoding

Logits = NDArray[np.float32]
Biases = tuple[tuple[int, float], ...]


def adjusted(logits: Logits, decodings: Sequence[Decoding], histories: Sequence[Sequence[int]]) -> Logits:
    """`logits` [rows, vocabulary] as each row's decoding wants them, given the row's tokens so far.

    The same array where no row wants a change, or else a new one. Ids outside the vocabulary are ignored.
    """
    touched = [row for row, decoding in enumerate(decodings) if _biased(decoding) or _penalizes(decoding)]
    if not touched:
        return logits
    changed = logits.copy()
    with np.errstate(all="ignore"):
        for row in touched:
            if _biased(decodings[row]):
                _add_biases(changed[row], decodings[row].logit_bias)
            if _penalizes(decodings[row]):
                _penalize(changed[row], decodings[row], histories[row])
    return changed


def _biased(decoding: Decoding) -> bool:
    return bool(decoding.logit_bias)


def _penalizes(decoding: Decoding) -> bool:
    penalties = (decoding.repeat_penalty, decoding.presence_penalty, decoding.frequency_penalty)
    return decoding.penalized > 0 and penalties != (1, 0, 0)


def _add_biases(row: Logits, biases: Biases) -> None:
    """A bias of -inf forbids, of +inf demands; where the two meet, the ban wins."""
    tokens, values = _arrays(biases)
    inside = tokens < len(row)
    tokens, values = tokens[inside], values[inside]
    wanted = row[tokens] + values
    row[tokens] = np.where(np.isnan(wanted), -np.inf, wanted)


@lru_cache(maxsize=64)
def _arrays(biases: Biases) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Token ids, each once, and the sums of their biases."""
    totals: dict[int, float] = {}
    for token, bias in biases:
        if token >= 0:
            totals[token] = totals.get(token, 0.0) + bias
    return np.array(list(totals), dtype=np.int64), np.array(list(totals.values()), dtype=np.float64)


def _penalize(row: Logits, decoding: Decoding, history: Sequence[int]) -> None:
    counts = Counter(token for token in history[-decoding.penalized :] if 0 <= token < len(row))
    tokens = np.array(list(counts), dtype=np.int64)
    times = np.array(list(counts.values()), dtype=np.float64)
    values = row[tokens].astype(np.float64)
    penalty = decoding.repeat_penalty
    values = np.where(values > 0, values / penalty, values * penalty)
    row[tokens] = values - decoding.presence_penalty - decoding.frequency_penalty * times
