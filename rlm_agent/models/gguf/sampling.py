"""Drawing tokens for a whole batch at once, by inverse transform from one uniform number a token.

A draw depends on its own logits and its own number alone, never on who else is in the batch.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.protocols import Decoding

Floats = NDArray[np.float64]


def uniforms(seed: int, count: int) -> Floats:
    """The first `count` uniform numbers in [0, 1) of the stream that `seed` names."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def draw(
    logits: NDArray[np.float32], decodings: Sequence[Decoding], numbers: Sequence[float]
) -> tuple[NDArray[np.int64], Floats]:
    """One token a row of `logits` [rows, vocabulary], and its log-probability at temperature 1, uncut."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    tokens = np.empty(len(shifted), dtype=np.int64)
    for decoding in set(decodings):
        rows = [row for row, other in enumerate(decodings) if other == decoding]
        chosen = shifted if len(rows) == len(shifted) else shifted[rows]
        tokens[rows] = _draw_alike(chosen, decoding, np.array([numbers[row] for row in rows]))
    totals = np.log(np.exp(shifted).sum(axis=1))
    return tokens, shifted[np.arange(len(shifted)), tokens] - totals


def _draw_alike(shifted: Floats, decoding: Decoding, numbers: Floats) -> NDArray[np.int64]:
    if decoding.temperature == 0:
        return np.asarray(np.argmax(shifted, axis=1))
    weights = _cut(np.exp(shifted), decoding) ** (1 / decoding.temperature)
    cumulative = np.cumsum(weights, axis=1)
    return np.asarray((cumulative <= numbers[:, None] * cumulative[:, -1:]).sum(axis=1))


def _cut(weights: Floats, decoding: Decoding) -> Floats:
    """Zero the weights that top-k, top-p and min-p exclude; the largest always stays."""
    if 0 < decoding.top_k < weights.shape[1]:
        floor = np.partition(weights, -decoding.top_k, axis=1)[:, -decoding.top_k, None]
        weights = np.where(weights >= floor, weights, 0.0)
    if decoding.top_p < 1:
        weights = _nucleus(weights, decoding.top_p)
    if decoding.min_p > 0:
        floor = min(decoding.min_p, 1.0) * weights.max(axis=1, keepdims=True)
        weights = np.where(weights >= floor, weights, 0.0)
    return weights


def _nucleus(weights: Floats, top_p: float) -> Floats:
    """Keep the fewest largest weights whose share reaches `top_p`."""
    order = np.argsort(-weights, axis=1, kind="stable")
    ranked = np.take_along_axis(weights, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    before[:, 0] = -1.0
    ranked = np.where(before < top_p * ranked.sum(axis=1, keepdims=True), ranked, 0.0)
    kept = np.zeros_like(weights)
    np.put_along_axis(kept, order, ranked, axis=1)
    return kept
