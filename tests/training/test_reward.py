"""Reward models: that one tells better from worse, and reads where it was trained."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.gguf.values.heads import ValueHead
from rlm_agent.models.gguf.values.values import HeadValue
from rlm_agent.models.preferences import ValuePreference
from rlm_agent.models.protocols import Candidate, Message
from rlm_agent.models.resolve import load_policy, load_value
from rlm_agent.structure.errors import DecodeError, InputError
from rlm_agent.training.heads import write_head_file
from rlm_agent.training.reward import RewardPairs, reward_pairs, train_reward
from rlm_agent.training.value import Epoch, ValueConfig

CONFIG = ValueConfig(width=16, members=2, epochs=40, batch=8, learning_rate=1e-2, noise=0.0, dropout=0.0)
SOLVED = {
    "4 9 10 13 : 24": (
        ("13 - 9 = 4 | 4 4 10", "10 - 4 = 6 | 4 6", "4 * 6 = 24"),
        ("13 - 9 = 4 | 4 4 10", "10 + 4 = 14 | 4 14", "14 + 4 = 18"),
    ),
    "3 3 8 8 : 24": (
        ("8 / 3 = 8/3 | 8/3 3 8", "3 - 8/3 = 1/3 | 1/3 8", "8 / 1/3 = 24"),
        ("8 + 8 = 16 | 3 3 16", "16 + 3 = 19 | 3 19", "19 + 3 = 22"),
    ),
    "1 2 3 4 : 24": (
        ("1 * 2 = 2 | 2 3 4", "2 * 3 = 6 | 4 6", "6 * 4 = 24"),
        ("1 + 2 = 3 | 3 3 4", "3 + 3 = 6 | 4 6", "6 - 4 = 2"),
    ),
}


@pytest.fixture(scope="module")
def policy() -> GGUFPolicy:
    """mini."""
    policy = load_policy("mini")
    assert isinstance(policy, GGUFPolicy)
    return policy


def trajectory(question: str, steps: tuple[str, ...]) -> Candidate:
    return Candidate((Message(role="user", content=question),), steps, True)


PAIRS = [
    (trajectory(question, right), trajectory(question, wrong)) for question, (right, wrong) in SOLVED.items()
]


def test_a_few_pairs_are_learned_and_read_back_where_values_are_read(
    policy: GGUFPolicy, tmp_path: Path
) -> None:
    """To the bit: the head sees, at the end of a trajectory, the hidden state that it was trained on."""
    pairs = reward_pairs(policy, PAIRS)
    assert pairs.better.shape == pairs.worse.shape == (len(PAIRS), policy.file.width)
    weights = train_reward(pairs, CONFIG)
    write_head_file(tmp_path / "reward.gguf", weights, policy.file.identity)
    value = load_value(tmp_path / "reward.gguf", policy)
    assert isinstance(value, HeadValue)
    better, worse = ([pair[side] for pair in PAIRS] for side in (0, 1))
    said = [[score.value for score in value.score(chains)] for chains in (better, worse)]
    assert said[0] == ValueHead(weights).apply(pairs.better).tolist()
    assert said[1] == ValueHead(weights).apply(pairs.worse).tolist()
    assert min(said[0]) > 0.7 and max(said[1]) < 0.3
    assert min(score.value for score in ValuePreference(value).prefer(PAIRS)) > 0.8
    unfinished = [Candidate(chain.messages, chain.steps, False) for chain in better]
    assert not np.allclose([score.value for score in value.score(unfinished)], said[0], atol=1e-3)


def made(count: int, *, seed: int, off: float = 5.0) -> RewardPairs:
    """States of which the better has the larger sum of two coordinates, all far from the origin."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(2, count, 8)).astype(np.float32)
    first = states[0, :, :2].sum(1) > states[1, :, :2].sum(1)
    better = np.where(first[:, None], states[0], states[1])
    worse = np.where(first[:, None], states[1], states[0])
    return RewardPairs(better * np.float32(3) + np.float32(off), worse * np.float32(3) + np.float32(off))


def test_what_was_learned_holds_for_other_pairs_and_rewards_stay_centred() -> None:
    epochs: list[Epoch] = []
    config = ValueConfig(width=16, members=2, epochs=20, batch=32, learning_rate=5e-3)
    head, fresh = ValueHead(train_reward(made(600, seed=0), config, epochs.append)), made(300, seed=1)

    def logits(states: NDArray[np.float32]) -> NDArray[np.float64]:
        values = head.apply(states)
        found: NDArray[np.float64] = np.log(values / (1 - values))
        return found

    better, worse = logits(fresh.better), logits(fresh.worse)
    assert (better > worse).mean() > 0.95
    assert abs((better + worse).mean()) < 1
    first, last = epochs[0], epochs[19]
    assert (first.member, last.member, last.epoch) == (0, 0, 20)
    assert last.loss < 0.3 < first.loss < 1


def test_same_seed_makes_the_same_head() -> None:
    pairs = made(40, seed=0)
    heads = [ValueHead(train_reward(pairs, CONFIG)).identity for _ in range(2)]
    assert heads[0] == heads[1]


def test_pairs_that_teach_nothing_are_refused() -> None:
    states = made(5, seed=0).better
    for pairs in (RewardPairs(states, states), RewardPairs(states[:0], states[:0])):
        with pytest.raises(InputError, match="give pairs that differ"):
            train_reward(pairs, CONFIG)


def test_a_trajectory_that_does_not_fit_is_an_error_and_no_pair_none(policy: GGUFPolicy) -> None:
    assert reward_pairs(policy, []).better.shape == (0, policy.file.width)
    endless = trajectory("4 9 10 13 : 24", ("13 - 9 = 4 | 4 4 10",) * 2000)
    with pytest.raises(DecodeError, match="leave out those too long"):
        reward_pairs(policy, [(endless, PAIRS[0][1])])
