"""Drawing tokens for a whole batch at once, by inverse transform from one uniform number a token.

A draw depends on its own logits and its own number alone, to the bit, never on who else is in the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.sampling.cuts import cuts, floors
from rlm_agent.models.gguf.sampling.grammar import Grammar
from rlm_agent.models.gguf.sampling.measures import Floats, Logits, blocks, chunks, logprobs, measure, sums
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
    drawn = _draw(wanted, draws)
    for row, one in enumerate(draws):
        if one.grammar is not None and not one.grammar.allows(int(drawn.tokens[row])):
            masked = one.grammar.mask(wanted[row])[None]
            _put(drawn, np.array([row]), _draw(masked, [replace(one, number=_second(one))]))
    drawn.logprobs[:] = logprobs(logits, drawn.tokens)
    return drawn


def _second(one: Draw) -> float:
    return one.number if one.decoding.temperature == 0 else one.spare


def _draw(logits: Logits, draws: Sequence[Draw]) -> Drawn:
    """Draw from logits that are final but for cuts and temperature; `logprobs` are left empty."""
    count, width = logits.shape
    drawn = Drawn(np.empty(count, dtype=np.int64), np.empty(count), np.empty(count), np.empty(count))
    numbers = np.array([one.number for one in draws], dtype=np.float64)
    for decoding, rows in _alike(draws):
        for part in chunks(len(rows), width):
            chosen = rows[part]
            values = logits if len(chosen) == count else logits[chosen]
            _put(drawn, chosen, _draw_alike(values, decoding, numbers[chosen]))
    return drawn


def _put(drawn: Drawn, rows: NDArray[np.int64], part: Drawn) -> None:
    drawn.tokens[rows], drawn.rest[rows], drawn.width[rows] = part.tokens, part.rest, part.width


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
        if decoding.temperature == 0:
            tokens, rest, width = logits.argmax(axis=1), numbers.copy(), np.ones(len(logits))
        else:
            temperature = min(max(decoding.temperature, _COLDEST), _HOTTEST)
            shifted = _shifted(logits, peaks)
            pick = _pick_cut if cuts(decoding) else _pick_whole
            tokens, rest, width = pick(shifted, decoding, temperature, numbers)
    dead = ~(peaks > -np.inf)
    tokens[dead], rest[dead], width[dead] = -1, numbers[dead], 0.0
    return Drawn(tokens, np.empty(len(logits)), rest, width)


def _shifted(logits: Logits, peaks: Logits) -> Logits:
    """Logits less their peaks; those of +inf, which demand a token, become 0 and all others then -inf."""
    shifted = logits - peaks[:, None]
    demanding = np.flatnonzero(peaks == np.inf)
    if len(demanding):
        shifted[demanding] = np.where(logits[demanding] == np.inf, 0.0, -np.inf)
    return shifted


Picked = tuple[NDArray[np.int64], Floats, Floats]
"""Indices, rests and widths, [rows] each."""


def _pick_whole(shifted: Logits, decoding: Decoding, temperature: float, numbers: Floats) -> Picked:
    """First a block, then a token in it: so nothing of the vocabulary's size is accumulated in double."""
    weights = blocks(shifted, temperature)
    block, rest, share = _pick(sums(weights), numbers)
    inside = weights[np.arange(len(weights)), block].astype(np.float64)
    lane, rest, width = _pick(inside, rest)
    return block * weights.shape[2] + lane, rest, share * width


def _pick_cut(shifted: Logits, decoding: Decoding, temperature: float, numbers: Floats) -> Picked:
    """What the cuts leave is gathered in a table, in double precision and filled up with zeros."""
    lowest = floors(shifted, decoding)
    rows, tokens = np.divmod(np.flatnonzero(shifted >= lowest[:, None]), shifted.shape[1])
    counts = np.bincount(rows, minlength=len(shifted))
    places = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    weights, ids = np.zeros((2, len(shifted), max(1, counts.max())))
    weights[rows, places] = np.exp(shifted[rows, tokens].astype(np.float64) / temperature)
    ids[rows, places] = tokens
    index, rest, width = _pick(weights, numbers)
    return ids[np.arange(len(ids)), index].astype(np.int64), rest, width


def _pick(weights: Floats, numbers: Floats) -> Picked:
    """Indices into `weights` [rows, n] by `numbers` [rows]; zeros at a row's end change nothing."""
    cumulative = np.cumsum(weights, axis=1)
    totals = cumulative[:, -1]
    targets = np.minimum(numbers * totals, np.nextafter(totals, 0.0))
    index = np.minimum((cumulative <= targets[:, None]).sum(axis=1), weights.shape[1] - 1)
    rows = np.arange(len(weights))
    chosen = weights[rows, index]
    before = np.where(index > 0, cumulative[rows, index - 1], 0.0)
    return index, np.clip((targets - before) / chosen, 0.0, _BELOW_ONE), chosen / totals
