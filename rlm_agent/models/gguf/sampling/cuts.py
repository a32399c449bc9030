"""Top-k, top-p and min-p as one floor a row: every cut keeps what is at least so likely as its last token.

Tokens as likely as the last one that a cut keeps stay too, so that no cut depends on the order of ids.
"""

import math

import numpy as np

from rlm_agent.models.gguf.sampling.measures import Floats, Logits, blocks, sums
from rlm_agent.models.protocols import Decoding


def cuts(decoding: Decoding) -> bool:
    """Whether a decoding cuts anything."""
    return decoding.top_k > 0 or decoding.top_p < 1 or decoding.min_p > 0


def floors(shifted: Logits, decoding: Decoding) -> Logits:
    """The least logits [rows] that are kept of `shifted` [rows, vocabulary], whose greatest are 0.

    The cuts apply in the order top-k, top-p, min-p; the greatest logit always stays.
    """
    lowest = np.full(len(shifted), -np.inf, dtype=np.float32)
    ranked = 0 < decoding.top_k < shifted.shape[1]
    if ranked:
        lowest = np.partition(shifted, -decoding.top_k, axis=1)[:, -decoding.top_k]
    if decoding.top_p < 1:
        lowest = _among(shifted, lowest, decoding.top_p) if ranked else _nuclei(shifted, decoding.top_p)
    if decoding.min_p > 0:
        lowest = np.maximum(lowest, np.float32(math.log(min(decoding.min_p, 1.0))))
    return lowest


def _among(shifted: Logits, lowest: Logits, top_p: float) -> Logits:
    """The floors of the nuclei of what is not below `lowest` [rows]."""
    pairs = zip(shifted, lowest, strict=True)
    return np.array([_nucleus(row[row >= floor], top_p) for row, floor in pairs], dtype=np.float32)


def _nuclei(shifted: Logits, top_p: float) -> Logits:
    """The floors of the nuclei of whole rows.

    Only what can belong to a nucleus is sorted: if all tokens below some probability together have less
    than the share that is cut off, none of them does. The factor of a half makes up for rounding.
    """
    totals = sums(blocks(shifted, 1.0)).sum(axis=1)
    possible = np.log((1 - top_p) / 2 * totals / shifted.shape[1])
    triples = zip(shifted, possible, totals, strict=True)
    return np.array(
        [_nucleus(row[row >= np.float32(low)], top_p, total) for row, low, total in triples], dtype=np.float32
    )


def _nucleus(values: Logits, top_p: float, total: float | None = None) -> float:
    """The least of the fewest largest values whose exponentials reach the share `top_p` of their total."""
    if not len(values):
        return math.nan
    ranked = np.sort(values)[::-1]
    weights: Floats = np.exp(ranked.astype(np.float64))
    cumulative = np.cumsum(weights)
    wanted = top_p * (cumulative[-1] if total is None else total)
    count = int((cumulative - weights < wanted).sum())
    return float(ranked[max(count, 1) - 1])
