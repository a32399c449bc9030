"""Drawing tokens, against slow and plain references."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlm_agent.models.gguf.sampling.draw import Draw, Drawn, draw, measure, uniforms
from rlm_agent.models.protocols import Decoding

Logits = NDArray[np.float32]

decodings = st.builds(
    Decoding,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.5, 4.0]),
    top_k=st.sampled_from([0, 1, 3, 40, 100_000]),
    top_p=st.sampled_from([0.0, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0, 2.0]),
    repeat_penalty=st.sampled_from([1.0, 1.3]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.25, -0.25]),
    penalized=st.sampled_from([0, 2, 64]),
    logit_bias=st.sampled_from([(), ((1, 2.5), (1, 0.5), (0, -math.inf)), ((3, -1.0), (10**6, 9.0))]),
)


def normal(rows: int, width: int, seed: int = 0, scale: float = 3.0) -> Logits:
    return (np.random.default_rng(seed).standard_normal((rows, width)) * scale).astype(np.float32)


def shares(row: Logits, how: Decoding, history: Sequence[int] = ()) -> list[float]:
    """The distribution that a token is drawn from, in plain Python."""
    logits = [float(value) for value in row]
    for token, bias in how.logit_bias:
        if token < len(logits):
            logits[token] += bias
    for token, times in Counter(history[-how.penalized :] if how.penalized else ()).items():
        value = logits[token]
        value = value / how.repeat_penalty if value > 0 else value * how.repeat_penalty
        logits[token] = value - how.presence_penalty - times * how.frequency_penalty
    peak = max(logits)
    kept = [math.exp(value - peak) for value in logits]
    if 0 < how.top_k < len(kept):
        floor = sorted(kept)[-how.top_k]
        kept = [weight if weight >= floor else 0.0 for weight in kept]
    if how.top_p < 1:
        reached, floor = 0.0, 1.0
        for weight in sorted(kept, reverse=True):
            if reached and reached >= how.top_p * math.fsum(kept):
                break
            reached, floor = reached + weight, weight
        kept = [weight if weight >= floor else 0.0 for weight in kept]
    kept = [weight if weight >= min(how.min_p, 1.0) else 0.0 for weight in kept]
    if how.temperature == 0:
        return [float(token == kept.index(1.0)) for token in range(len(kept))]
    kept = [weight ** (1 / how.temperature) for weight in kept]
    return [weight / math.fsum(kept) for weight in kept]


def same(one: Drawn, other: Drawn, rows: Sequence[int]) -> bool:
    fields = ("tokens", "logprobs", "rest", "width")
    return all(
        np.array_equal(getattr(one, name)[list(rows)], getattr(other, name), equal_nan=True)
        for name in fields
    )


def many(row: Logits, how: Decoding, count: int, history: Sequence[int] = ()) -> Drawn:
    """Draws from one row by numbers that are spread evenly."""
    return draw(np.tile(row, (count, 1)), [Draw(how, i / count, 0.5, history) for i in range(count)])


@given(
    how=decodings,
    width=st.sampled_from([2, 5, 63, 64, 65, 320]),
    number=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 9),
    history=st.lists(st.integers(0, 1), max_size=5),
)
def test_token_is_the_one_whose_interval_holds_the_number(
    how: Decoding, width: int, number: float, seed: int, history: list[int]
) -> None:
    row = normal(1, width, seed)
    expected = shares(row[0], how, history)
    drawn = draw(row, [Draw(how, number, history=history)])
    token = int(drawn.tokens[0])
    assert drawn.width[0] == pytest.approx(expected[token], rel=1e-4)
    assert 0 <= drawn.rest[0] < 1
    if how.temperature:
        position = math.fsum(expected[:token]) + drawn.rest[0] * expected[token]
        assert position == pytest.approx(number, abs=1e-5)
    else:
        assert drawn.rest[0] == number


@given(row=st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=70), token=st.integers(0, 69))
def test_logprob_is_of_the_raw_logits(row: list[float], token: int) -> None:
    token %= len(row)
    how = Decoding(0.7, top_k=1, logit_bias=((token, math.inf),))
    drawn = draw(np.array([row], dtype=np.float32), [Draw(how, 0.5)])
    total = math.log(math.fsum(math.exp(value - max(row)) for value in row))
    assert drawn.tokens[0] == token
    assert drawn.logprobs[0] == pytest.approx(row[token] - max(row) - total, abs=1e-5)


@pytest.mark.parametrize("width", [1, 7, 63, 65, 320, 1000, 4096, 32000, 151936])
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_row_is_drawn_the_same_to_the_bit_in_any_company(width: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 18 if width < 10_000 else 4))
    logits = normal(count, width, data.draw(st.integers(0, 99)))
    some = data.draw(st.lists(decodings, min_size=1, max_size=2))
    numbers = uniforms(count, count)
    draws = [
        Draw(some[row % len(some)], float(numbers[row]), history=(0, row % width)) for row in range(count)
    ]
    rows = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True))
    together = draw(logits, draws)
    apart = draw(logits[rows], [draws[row] for row in rows])
    assert same(together, apart, rows)
    for row in rows:
        assert same(together, draw(logits[row : row + 1].copy(), [draws[row]]), [row])


@pytest.mark.parametrize(
    "how",
    [
        Decoding(),
        Decoding(0.5),
        Decoding(top_k=5),
        Decoding(top_p=0.8),
        Decoding(min_p=0.05),
        Decoding(1.5, top_k=20, top_p=0.95, min_p=0.01),
        Decoding(repeat_penalty=1.5, presence_penalty=0.5, frequency_penalty=0.3),
    ],
)
def test_frequencies_follow_the_distribution(how: Decoding) -> None:
    row, history, count = normal(1, 100, 3, 1.5)[0], (1, 1, 2, 50), 20_000
    numbers = uniforms(7, count)
    drawn = draw(np.tile(row, (count, 1)), [Draw(how, float(n), history=history) for n in numbers])
    assert fits(np.bincount(drawn.tokens, minlength=100), np.array(shares(row, how, history)))


def fits(found: NDArray[np.int64], expected: NDArray[np.float64]) -> bool:
    """Whether a chi-square lies within five standard deviations of its mean; rare tokens count as one."""
    assert not found[expected == 0].any()
    wanted = expected * found.sum()
    common = wanted >= 5
    pairs = [*zip(found[common], wanted[common], strict=True), (found[~common].sum(), wanted[~common].sum())]
    square = sum((f - w) ** 2 / max(w, 1) for f, w in pairs)
    return bool(square < len(pairs) + 5 * math.sqrt(2 * len(pairs)))


@given(how=decodings, count=st.integers(1, 50), seed=st.integers(0, 20))
def test_evenly_spread_codes_divide_the_distribution(how: Decoding, count: int, seed: int) -> None:
    row = normal(1, 30, seed, 2.0)[0]
    found = np.bincount(many(row, how, count).tokens, minlength=30)
    assert np.abs(found - count * np.array(shares(row, how))).max() <= 1 + 1e-3


def test_rest_is_a_code_for_the_next_token() -> None:
    first, second = normal(1, 30, 1, 1.0)[0], normal(1, 30, 2, 1.0)[0]
    one = many(first, Decoding(), 3000)
    two = draw(np.tile(second, (3000, 1)), [Draw(Decoding(), float(rest)) for rest in one.rest])
    pairs = Counter(zip(one.tokens.tolist(), two.tokens.tolist(), strict=True))
    left, right = shares(first, Decoding()), shares(second, Decoding())
    assert all(abs(n - 3000 * left[a] * right[b]) <= 1.01 for (a, b), n in pairs.items())


def test_greedy_takes_the_lowest_id_of_equals() -> None:
    drawn = draw(np.array([[1, 3, 3, 2]], dtype=np.float32), [Draw(Decoding(0), 0.9)])
    assert (drawn.tokens[0], drawn.rest[0], drawn.width[0]) == (1, 0.9, 1.0)


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-8, 1e8, 1e300])
@pytest.mark.parametrize("cut", [{}, {"top_k": 30}, {"top_p": 0.9}, {"min_p": 1e-9}])
def test_extreme_temperatures_are_either_greedy_or_even(temperature: float, cut: dict[str, float]) -> None:
    row = normal(1, 40)[0]
    row[5] = -np.inf
    how = replace(Decoding(temperature), **cut)  # type: ignore[arg-type]
    drawn = many(row, how, 40)
    assert np.isfinite([drawn.rest, drawn.width, drawn.logprobs]).all()
    kept = np.count_nonzero(shares(row, replace(how, temperature=1.0)))
    assert len(set(drawn.tokens.tolist())) == (1 if temperature < 1 else kept)


@given(how=decodings, number=st.floats(0, 1, exclude_max=True), width=st.sampled_from([3, 64, 200]))
def test_the_only_possible_token_is_drawn(how: Decoding, number: float, width: int) -> None:
    row = np.full((1, width), -np.inf, dtype=np.float32)
    row[0, width - 1] = 4.0
    drawn = draw(row, [Draw(replace(how, logit_bias=()), number)])
    assert (drawn.tokens[0], drawn.logprobs[0], drawn.width[0]) == (width - 1, 0.0, 1.0)


@given(how=decodings)
def test_row_with_nan_says_so_and_spares_the_others(how: Decoding) -> None:
    rows = normal(3, 70)
    rows[1, 4] = np.nan
    draws = [Draw(how, 0.3)] * 3
    drawn = draw(rows, draws)
    assert np.isnan(drawn.logprobs).tolist() == [False, True, False]
    assert same(drawn, draw(rows[[0, 2]], draws[:2]), [0, 2])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_row_in_which_everything_is_banned_has_no_token(temperature: float) -> None:
    how = Decoding(temperature, logit_bias=((0, -math.inf), (1, -math.inf)))
    drawn = draw(np.zeros((1, 2), dtype=np.float32), [Draw(how, 0.3)])
    assert (drawn.tokens[0], drawn.logprobs[0], drawn.width[0]) == (-1, -math.inf, 0.0)


@pytest.mark.parametrize("bias", [math.inf, 1e300, 1e30, 1e4])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_huge_bias_demands_a_token_and_its_opposite_bans_it(bias: float, temperature: float) -> None:
    row = normal(1, 8, scale=1.0)[0]
    assert set(many(row, Decoding(temperature, logit_bias=((6, bias),)), 20).tokens) == {6}
    assert 6 not in many(row, Decoding(temperature, logit_bias=((6, -bias),)), 20).tokens
    both = Decoding(temperature, logit_bias=((6, math.inf), (6, -math.inf)))
    assert 6 not in many(row, both, 20).tokens


def test_drawing_leaves_the_logits_alone() -> None:
    logits = normal(2, 50)
    before = logits.copy()
    draw(
        logits,
        [Draw(Decoding(0.7, top_p=0.9, repeat_penalty=2, logit_bias=((3, 1.0),)), 0.5, history=(1,))] * 2,
    )
    assert np.array_equal(logits, before)


@given(
    row=st.lists(st.one_of(st.floats(-50, 50, width=32), st.just(-math.inf)), min_size=1, max_size=40),
    count=st.integers(0, 45),
)
def test_measures_agree_with_plain_sums(row: list[float], count: int) -> None:
    row[0] = 1.0
    peak = max(row)
    total = math.fsum(math.exp(value - peak) for value in row)
    log = [value - peak - math.log(total) for value in row]
    entropy = -math.fsum(math.exp(v) * v for v in log if v > -math.inf)
    variance = math.fsum(math.exp(v) * (-v - entropy) ** 2 for v in log if v > -math.inf)
    measured = measure(np.array([row], dtype=np.float32), np.array([0]), count)
    assert measured.logprobs[0] == pytest.approx(log[0], abs=1e-5)
    assert measured.entropies[0] == pytest.approx(entropy, abs=1e-9)
    assert measured.varentropies[0] == pytest.approx(variance, abs=1e-9)
    best = sorted((-v, token) for token, v in enumerate(row) if v > -math.inf)[:count]
    assert [token for token, _ in measured.alternatives[0]] == [token for _, token in best]
    assert [v for _, v in measured.alternatives[0]] == pytest.approx([log[t] for _, t in best])
