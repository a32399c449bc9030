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


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The chance that k of `samples` chains, `correct` of them right, hold a right one.

    The unbiased estimator 1 − C(n − c, k) / C(n, k) of Chen et al., arXiv 2107.03374. `ValueError` unless
    0 ≤ correct ≤ samples and 1 ≤ k ≤ samples.
    """
    if not (0 <= correct <= samples and 1 <= k <= samples):
        raise ValueError(f"pass@{k} of {samples} samples, {correct} of them right, does not exist")
    return 1 - math.comb(samples - correct, k) / math.comb(samples, k)
