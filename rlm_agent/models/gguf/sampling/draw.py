"""Drawing tokens for a whole batch at once, by inverse transform from one uniform number a token.

A draw depends on its own logits and its own number alone, to the bit, never on who else is in the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.sampling.cuts import cuts, floors
from rlm_agent.models.gguf.sampling.grammar import Grammar
from rlm_agent.models.gguf.sampling.measures import (
    Floats,
    Logits,
    blocks,
    chunk_size,
    chunks,
    logprobs,
    logs,
    measure,
    sums,
)
from rlm_agent.models.gguf.sampling.penalties import adjusted
from rlm_agent.models.protocols import Decoding

__all__ = ["Draw", "Drawn", "Floats", "draw", "measure", "uniforms"]

_BELOW_ONE = np.nextafter(1.0, 0.0)
_COLDEST, _HOTTEST = 1e-30, 1e30  # what single precision can divide by; beyond, nothing would change


@dataclass(slots=True)
class Draw:
    """How one row is drawn: by `number` in [0, 1), and by `spare` where the grammar refused that draw.

    `history` are the tokens generated so far, for the penalties; `grammar` is as it stands after them.
    """

    decoding: Decoding
    number: float
    spare: float = 0.0
    history: Sequence[int] = ()
    grammar: Grammar | None = None


@dataclass(slots=True)
class Drawn:
    """What was drawn, [rows] each.

    `logprobs` are natural logarithms by the raw logits at temperature 1: without bias, penalty, grammar or
    cut. `width` is the probability of the token as it was drawn, after all those, and 1 if greedy. `rest` is
    where in that interval of the cumulative distribution, in the order of ids, the number lies, in [0, 1):
    the number for the next token in arithmetic sampling (arXiv 2210.15458). Greedily it is the number itself.

    Where no token is possible, as when the grammar allows none, the token is -1, its logprob -inf and its
    width 0. Where the raw logits have a NaN, or no maximum, the token may be -1 too, and the logprob is NaN.
    """

    tokens: NDArray[np.int64]
    logprobs: Floats
    rest: Floats
    width: Floats


def uniforms(seed: int, count: int) -> Floats:
    """The first `count` uniform numbers in [0, 1) of the stream that `seed` names."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def draw(logits: Logits, draws: Sequence[Draw]) -> Drawn:
    """One token a row of `logits` [rows, vocabulary].

    Bias and penalties come first, then the grammar, the cuts top-k, top-p and min-p, and the temperature.

    The grammar rejects: a token is drawn without it, and if it is refused, another is drawn by `spare` from
    the row masked by the grammar. Without cuts that yields exactly the masked distribution: a token's share
    is its probability p plus that of a refusal times p over the allowed mass, which is p over that mass.
    With cuts the first draw sees the cuts of the unmasked row. The caller tells the grammar what was drawn.
    """
    wanted = adjusted(logits, [one.decoding for one in draws], [one.history for one in draws])
    drawn, changed = _draw(wanted, draws), wanted is not logits
    for row, one in enumerate(draws):
        if one.grammar is not None and not one.grammar.allows(int(drawn.tokens[row])):
            masked = one.grammar.mask(wanted[row])[None]
            _put(drawn, np.array([row]), _draw(masked, [replace(one, number=_second(one))]))
            changed = True
    if changed:
        drawn.logprobs[:] = logprobs(logits, drawn.tokens)
    return drawn


def _second(one: Draw) -> float:
    return one.number if one.decoding.temperature == 0 else one.spare


def _draw(logits: Logits, draws: Sequence[Draw]) -> Drawn:
    """Draw from logits that are final but for cuts and temperature; log-probabilities are by them, too."""
    count, width = logits.shape
    numbers = np.array([one.number for one in draws], dtype=np.float64)
    groups = _alike(draws)
    if len(groups) == 1 and count <= chunk_size(width):
        return _draw_alike(logits, groups[0][0], numbers)
    drawn = Drawn(np.empty(count, dtype=np.int64), np.empty(count), np.empty(count), np.empty(count))
    for decoding, rows in groups:
        for part in chunks(len(rows), width):
            chosen = rows[part]
            _put(drawn, chosen, _draw_alike(logits[chosen], decoding, numbers[chosen]))
    return drawn


def _put(drawn: Drawn, rows: NDArray[np.int64], part: Drawn) -> None:
    drawn.tokens[rows], drawn.logprobs[rows] = part.tokens, part.logprobs
    drawn.rest[rows], drawn.width[rows] = part.rest, part.width


def _alike(draws: Sequence[Draw]) -> list[tuple[Decoding, NDArray[np.int64]]]:
    """Which rows share temperature and cuts, with a decoding of theirs."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for row, one in enumerate(draws):
        how = one.decoding
        groups.setdefault((how.temperature, how.top_k, how.top_p, how.min_p), []).append(row)
    return [(draws[rows[0]].decoding, np.array(rows)) for rows in groups.values()]


def _draw_alike(logits: Logits, decoding: Decoding, numbers: Floats) -> Drawn:
    with np.errstate(all="ignore"):
        peaks = logits.max(axis=1)
        shifted = _shifted(logits, peaks)
        weights = blocks(shifted, 1.0)
        totals = parts = sums(weights)
        cutting = cuts(decoding)
        if cutting:
            np.copyto(shifted, -np.inf, where=shifted < floors(shifted, decoding)[:, None])
        if decoding.temperature == 0:
            picked = logits.argmax(axis=1), numbers.copy(), np.ones(len(logits))
        else:
            if cutting or decoding.temperature != 1:
                weights = blocks(shifted, min(max(decoding.temperature, _COLDEST), _HOTTEST))
                parts = sums(weights)
            picked = _pick_block(weights, parts, numbers)
        tokens, rest, width = picked
        if not (peaks > -np.inf).all():
            dead = ~(peaks > -np.inf)
            tokens[dead], rest[dead], width[dead] = -1, numbers[dead], 0.0
        return Drawn(tokens, logs(logits, tokens, peaks, totals), rest, width)


def _shifted(logits: Logits, peaks: Logits) -> Logits:
    """Logits less their peaks; those of +inf, which demand a token, become 0 and all others then -inf."""
    shifted = logits - peaks[:, None]
    demanding = np.flatnonzero(peaks == np.inf)
    if len(demanding):
        shifted[demanding] = np.where(logits[demanding] == np.inf, 0.0, -np.inf)
    return shifted


Picked = tuple[NDArray[np.int64], Floats, Floats]
"""Indices, rests and widths, [rows] each."""


def _pick_block(weights: NDArray[np.float32], totals: Floats, numbers: Floats) -> Picked:
    """First a block of `weights` [rows, blocks, 64], then a token in it.

    So nothing of the vocabulary's size is accumulated in double. `totals` [rows, blocks] are the sums.
    """
    block, rest, share = _pick(totals, numbers)
    inside = weights[np.arange(len(weights)), block].astype(np.float64)
    lane, rest, width = _pick(inside, rest)
    return block * weights.shape[2] + lane, rest, share * width


def _pick(weights: Floats, numbers: Floats) -> Picked:
    """Indices into `weights` [rows, n] by `numbers` [rows]; zeros at a row's end change nothing.

    Where nothing is possible, or something is no number, rest and width are 0.
    """
    cumulative, rows = weights.cumsum(axis=1), np.arange(len(weights))
    totals = cumulative[:, -1]
    targets = np.minimum(numbers * totals, np.nextafter(totals, 0.0))
    index = np.minimum((cumulative <= targets[:, None]).sum(axis=1), weights.shape[1] - 1)
    chosen = weights[rows, index]
    rest = (targets - (cumulative[rows, index] - chosen)) / chosen
    rest, width = np.minimum(np.maximum(rest, 0.0), _BELOW_ONE), chosen / totals
    impossible = ~(chosen > 0)
    if impossible.any():
        rest[impossible] = width[impossible] = 0.0
    return index, rest, width
