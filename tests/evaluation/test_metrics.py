"""pass@k, intervals and McNemar's test against published numbers."""

import math
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.evaluation.metrics import mcnemar, paired_difference, pass_at_k, wilson


@pytest.mark.parametrize(
    ("samples", "correct", "k", "expected"),
    [(10, 3, 1, 0.3), (10, 3, 5, 0.916667), (4, 0, 1, 0.0), (5, 3, 3, 1.0), (256, 1, 16, 0.0625)],
)
def test_pass_at_k_of_the_worked_cases(samples: int, correct: int, k: int, expected: float) -> None:
    assert pass_at_k(samples, correct, k) == pytest.approx(expected, abs=1e-6)


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_subsets_that_hold_a_right_one(samples: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    subsets = list(combinations([True] * correct + [False] * (samples - correct), k))
    assert pass_at_k(samples, correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize(
    ("samples", "correct", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0), (0, 0, 1)]
)
def test_pass_at_k_that_does_not_exist_is_an_error(samples: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        pass_at_k(samples, correct, k)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (50, 100, 0.403832, 0.596168),
        (8, 10, 0.490162, 0.943318),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_of_known_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-6)


@given(st.integers(1, 500), st.data())
def test_wilson_ends_solve_the_score_equation(trials: int, data: st.DataObject) -> None:
    """An end p of the interval is where the observed share is z standard errors *of p* away."""
    successes = data.draw(st.integers(0, trials))
    share = successes / trials
    low, high = wilson(successes, trials)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    for end in (low, high):
        error = math.sqrt(end * (1 - end) / trials)
        assert abs(share - end) == pytest.approx(1.959964 * error, abs=1e-6)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        ((1, 1, 7, 12), -0.507, -0.026),  # Fagerland et al., Statistics in Medicine 33 (2014) 2850
        ((14, 5, 0, 22), 0.011, 0.226),  # a positive correlation, which is corrected
        ((36, 12, 2, 0), 0.057, 0.340),  # a negative one, which is not
    ],
)
def test_paired_difference_of_known_tables(table: tuple[int, int, int, int], low: float, high: float) -> None:
    assert paired_difference(*table) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize("chances", [(0.5, 0.2, 0.1, 0.2), (0.1, 0.05, 0.25, 0.6), (0.6, 0.15, 0.1, 0.15)])
def test_paired_difference_covers_the_truth_about_95_times_in_100(chances: tuple[float, ...]) -> None:
    """Exactly: the chances of all tables of 24 trials whose interval holds the true difference."""
    trials, covered = 24, 0.0
    for cuts in combinations(range(trials + 3), 3):
        bars = (-1, *cuts, trials + 3)
        table = [after - before - 1 for before, after in pairwise(bars)]
        low, high = paired_difference(*table)
        if low <= chances[1] - chances[2] <= high:
            ways = math.factorial(trials) // math.prod(map(math.factorial, table))
            covered += ways * math.prod(map(pow, chances, table))
    assert 0.93 < covered < 0.995


def test_paired_difference_of_nothing_says_nothing() -> None:
    assert paired_difference(0, 0, 0, 0) == (-1.0, 1.0)


@given(*[st.integers(0, 60)] * 4)
def test_paired_difference_holds_what_was_seen_and_turns_with_the_sides(
    both: int, first: int, second: int, neither: int
) -> None:
    low, high = paired_difference(both, first, second, neither)
    seen = (first - second) / max(1, both + first + second + neither)
    assert -1 <= low <= seen + 1e-12 and seen - 1e-12 <= high <= 1
    assert paired_difference(both, second, first, neither) == pytest.approx((-high, -low))


@pytest.mark.parametrize(
    ("first", "second", "p_value"),
    [
        (1, 7, 0.0703),  # Fagerland et al., BMC Medical Research Methodology 13 (2013) 91
        (12, 2, 0.0129),  # Armitage and Berry, Statistical Methods in Medical Research (1994), p. 127
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 3, 0.25),
        (900, 1100, 8.46e-6),
    ],
)
def test_mcnemar_of_known_values(first: int, second: int, p_value: float) -> None:
    assert mcnemar(first, second) == mcnemar(second, first) == pytest.approx(p_value, rel=5e-3)
