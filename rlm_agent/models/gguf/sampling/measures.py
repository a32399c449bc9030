"""What a model thinks of its tokens: log-probabilities, entropies and the likeliest alternatives.

Each row is measured by itself, to the bit: elementwise operations, and sums over pieces whose borders depend
on the length of a row alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Logits = NDArray[np.float32]

_BLOCK = 64
_CACHED = 1 << 19  # so many logits at a time stay in a processor's cache


@dataclass(frozen=True, slots=True)
class Measured:
    """Of each row: the tokens' log-probabilities, entropies and varentropies, all [rows], and alternatives.

    Natural logarithms, so nats and nats². An alternative is a token id with its log-probability.
    """

    logprobs: Floats
    entropies: Floats
    varentropies: Floats
    alternatives: tuple[tuple[tuple[int, float], ...], ...]


def measure(logits: Logits, tokens: NDArray[np.int64], alternatives: int) -> Measured:
    """Measure `logits` [rows, vocabulary] and the `tokens` [rows] that were drawn from them.

    A row has as many alternatives as are asked for, the likeliest first and of equals the lower id first;
    what is impossible is not among them. A row with a NaN, or without a possible token, measures NaN.
    """
    entropies, varentropies = np.empty(len(logits)), np.empty(len(logits))
    likeliest = []
    with np.errstate(all="ignore"):
        for row, values in enumerate(logits):
            log = values.astype(np.float64) - float(values.max())
            log -= np.log(np.exp(log).sum())
            entropies[row], varentropies[row] = _moments(log)
            likeliest.append(_likeliest(values, log, alternatives))
    return Measured(logprobs(logits, tokens), entropies, varentropies, tuple(likeliest))


def _moments(log: Floats) -> tuple[float, float]:
    """Mean and variance of the surprisal of log-probabilities [vocabulary]."""
    surprisals = -log[log != -np.inf]
    shares = np.exp(-surprisals)
    mean = float((shares * surprisals).sum())
    return mean, float((shares * (surprisals - mean) ** 2).sum())


def _likeliest(values: Logits, log: Floats, count: int) -> tuple[tuple[int, float], ...]:
    """The tokens of the greatest logits, which can differ where log-probabilities round to one number."""
    count = min(count, len(values))
    if count < 1:
        return ()
    floor = np.partition(values, -count)[-count]
    best = np.flatnonzero((values >= floor) & (values > -np.inf))
    best = best[np.argsort(-values[best], kind="stable")][:count]
    return tuple((int(token), float(log[token])) for token in best)


def logprobs(logits: Logits, tokens: NDArray[np.int64]) -> Floats:
    """Log-probabilities [rows] of `tokens` [rows] by `logits` [rows, vocabulary], to within 1e-5.

    A negative token, which is none, has -inf; a row with a NaN, or without a possible token, has NaN.
    """
    result = np.empty(len(logits))
    with np.errstate(all="ignore"):
        for part in chunks(len(logits), logits.shape[1]):
            rows, chosen = logits[part], tokens[part]
            peaks = rows.max(axis=1)
            result[part] = logs(rows, chosen, peaks, sums(blocks(rows - peaks[:, None], 1.0)))
    return result


def logs(rows: Logits, tokens: NDArray[np.int64], peaks: Logits, totals: Floats) -> Floats:
    """The log-probabilities [rows] of `tokens`, from sums [rows, blocks] of exponentials over the peaks."""
    values = rows[np.arange(len(rows)), tokens].astype(np.float64)
    values[tokens < 0] = -np.inf
    return np.asarray(values - peaks - np.log(totals.sum(axis=1)))


def chunk_size(width: int) -> int:
    """How many rows of `width` numbers fit a cache; at least one."""
    return max(1, _CACHED // width)


def chunks(rows: int, width: int) -> Iterator[slice]:
    """Slices of `rows` rows of `width` numbers that fit a cache."""
    size = chunk_size(width)
    return (slice(start, start + size) for start in range(0, rows, size))


def blocks(shifted: Logits, temperature: float) -> NDArray[np.float32]:
    """The exponentials of `shifted` [rows, vocabulary] over the temperature, as [rows, blocks, 64].

    The last block is filled up with zeros.
    """
    rows, width = shifted.shape
    weights = np.zeros((rows, -(-width // _BLOCK) * _BLOCK), dtype=np.float32)
    inside = weights[:, :width]
    if temperature != 1:
        shifted = np.divide(shifted, np.float32(temperature), out=inside)
    np.exp(shifted, out=inside)
    return weights.reshape(rows, -1, _BLOCK)


def sums(weights: NDArray[np.float32]) -> Floats:
    """The sums [rows, blocks] of blocks, single within a block, so that they can be summed on in double."""
    single: NDArray[np.float32] = np.einsum("rbk->rb", weights)
    return single.astype(np.float64)
