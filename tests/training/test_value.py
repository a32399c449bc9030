"""Value heads: that one learns what can be learned, is the same again, and says what torch says."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.models.gguf.values.heads import ValueHead
from rlm_agent.models.gguf.values.mlp import HeadWeights
from rlm_agent.structure.errors import InputError
from rlm_agent.training.heads import evenly
from rlm_agent.training.rollouts import Labels
from rlm_agent.training.value import ValueConfig, auroc, calibrated, quality, train_head

CONFIG = ValueConfig(width=16, members=2, epochs=20, batch=32, learning_rate=5e-3)


def made(count: int = 2000, width: int = 8, *, seed: int = 0, luck: float = 1.0) -> Labels:
    """States whose chance is 0.9 where two coordinates agree in sign and 0.1 elsewhere, off centre."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, width)).astype(np.float32)
    chance = np.where(hidden[:, 0] * hidden[:, 1] > 0, 0.9, 0.1) * luck
    runs = rng.integers(1, 5, count).astype(np.int32)
    return Labels(
        hidden=hidden * 3 + 5,
        right=rng.binomial(runs, chance).astype(np.int32),
        runs=runs,
        depths=(1 + np.arange(count) % 2).astype(np.int32),
        questions=(np.arange(count) // 20).astype(np.int32),
    )


def test_an_even_ensemble_says_the_mean_of_its_heads() -> None:
    one, two, three = (
        train_head(made(seed=seed), replace(CONFIG, members=members, epochs=2))
        for seed, members in ((0, 1), (1, 2), (2, 3))
    )
    hidden = made(20, seed=9).hidden
    together = ValueHead(evenly(one, two, three)).apply(hidden)
    assert np.allclose(together, np.mean([ValueHead(head).apply(hidden) for head in (one, two, three)], 0))


def test_heads_of_different_activations_make_no_ensemble() -> None:
    head = train_head(made(), replace(CONFIG, epochs=1))
    with pytest.raises(InputError, match="different activations"):
        evenly(head, replace(head, activation="tanh"))


def test_head_learns_what_no_linear_one_could() -> None:
    weights, kept = train_head(made(), CONFIG), made(seed=1)
    assert all(area > 0.8 for area in quality(weights, kept).values())  # 0.9 is the most, by the chances
    assert mean(weights, kept) == pytest.approx(kept.right.sum() / kept.runs.sum(), abs=0.05)


def test_calibration_corrects_what_is_promised_and_changes_no_order() -> None:
    """Elsewhere every chance is a third of what was learned."""
    weights, elsewhere = train_head(made(), CONFIG), made(seed=2, luck=1 / 3)
    corrected = calibrated(weights, elsewhere)
    rate = elsewhere.right.sum() / elsewhere.runs.sum()
    assert mean(weights, elsewhere) > rate + 0.2
    assert mean(corrected, elsewhere) == pytest.approx(rate, abs=0.02)
    assert quality(corrected, elsewhere) == pytest.approx(quality(weights, elsewhere), abs=0.02)


def mean(weights: HeadWeights, labels: Labels) -> float:
    """The mean value of the states of runs."""
    return float(np.average(ValueHead(weights).apply(labels.hidden), weights=labels.runs))


def test_same_seed_makes_the_same_head_and_members_differ() -> None:
    labels = made(300)
    first, again = train_head(labels, CONFIG), train_head(labels, CONFIG)
    assert ValueHead(first).identity == ValueHead(again).identity
    assert not np.array_equal(first.members[0][0][0], first.members[1][0][0])


def test_labels_that_are_all_alike_are_refused() -> None:
    labels = made(100)
    labels.right[:] = 0
    with pytest.raises(InputError, match="all rollouts end alike"):
        train_head(labels, CONFIG)


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 2), st.integers(0, 2)), min_size=1)
)
def test_auroc_is_the_share_of_pairs_in_order(rows: list[tuple[float, int, int]]) -> None:
    scores = np.array([score for score, _, _ in rows])
    right = np.array([wins for _, wins, _ in rows], dtype=np.int32)
    runs = right + np.array([losses for _, _, losses in rows], dtype=np.int32)
    wins = [score for score, count, _ in rows for _ in range(count)]
    losses = [score for score, _, count in rows for _ in range(count)]
    pairs = [1.0 if win > loss else 0.5 if win == loss else 0.0 for win in wins for loss in losses]
    area = auroc(scores, right, runs)
    assert area == pytest.approx(np.mean(pairs)) if pairs else np.isnan(area)
