"""Figures over samples, with their uncertainty."""

import math

_Z = 1.959963984540054  # the 97.5% quantile of the normal distribution


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95% interval of a proportion (Wilson 1927), both ends in [0, 1]; (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share, spread = successes / trials, _Z**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(both: int, first: int, second: int, neither: int) -> tuple[float, float]:
    """The 95% interval of the difference of two shares over the same trials, both ends in [-1, 1].

    The trials are counted by who succeeded: both, the first alone, the second alone, neither; the difference
    is (first − second) / trials. Newcombe, Statistics in Medicine 17 (1998) 2635–2650, method 10: the Wilson
    intervals of the two shares, squared and added, with their correlation corrected for continuity where it
    is positive. (-1, 1) without trials.
    """
    trials = both + first + second + neither
    (one, low_one, high_one), (two, low_two, high_two) = (
        (successes / max(trials, 1), *wilson(successes, trials))
        for successes in (both + first, both + second)
    )
    spread = math.sqrt((both + first) * (second + neither) * (both + second) * (first + neither))
    excess = both * neither - first * second
    corrected = max(0.0, excess - trials / 2) if excess > 0 else excess
    correlation = corrected / spread if spread else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(a**2 - 2 * correlation * a * b + b**2)

    difference = one - two
    low = difference - reach(one - low_one, high_two - two)
    high = difference + reach(high_one - one, two - low_two)
    return max(-1.0, low), min(1.0, high)


def mcnemar(first: int, second: int) -> float:
    """The two-sided p-value of equal shares, from the trials in which one of two alone succeeded.

    McNemar's test (Psychometrika 12 (1947) 153–157) in its exact form: if the shares are equal, each such
    trial is a fair coin.
    """
    trials = first + second
    tail = sum(math.comb(trials, count) for count in range(min(first, second) + 1))
    return min(1.0, 2 * tail / (1 << trials))


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The chance that k of `samples` chains, `correct` of them right, hold a right one.

    The unbiased estimator 1 − C(n − c, k) / C(n, k) of Chen et al., arXiv 2107.03374. `ValueError` unless
    0 ≤ correct ≤ samples and 1 ≤ k ≤ samples.
    """
    if not (0 <= correct <= samples and 1 <= k <= samples):
        raise ValueError(f"pass@{k} of {samples} samples, {correct} of them right, does not exist")
    return 1 - math.comb(samples - correct, k) / math.comb(samples, k)
