"""Training a reward model: a head that tells better trajectories from worse ones.

Source: ARMAP (Chen et al., arXiv 2502.12130): the loss −log σ(R⁺ − R⁻) of a better and a worse trajectory.
Deviations: the trunk is that of the policy, frozen, where theirs is a model of its own that is tuned; the
head is the ensemble of MLPs of `value.py`. A member's reward R is its logit, the value the mean of σ(R).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.gguf.values.mlp import HeadWeights
from rlm_agent.models.gguf.values.values import StepEnds
from rlm_agent.models.protocols import Candidate
from rlm_agent.structure.errors import DecodeError, InputError
from rlm_agent.training.value import Epoch, Model, ValueConfig, train_ensemble

_CENTRING = 1e-3
"""The weight, from the authors' code, of what keeps rewards near 0, where the differences leave them free."""


@dataclass(frozen=True, slots=True)
class RewardPairs:
    """Hidden states [n, width] at the ends of n better and of n worse trajectories, pair by pair."""

    better: NDArray[np.float32]
    worse: NDArray[np.float32]


def reward_pairs(policy: GGUFPolicy, pairs: Sequence[tuple[Candidate, Candidate]]) -> RewardPairs:
    """The hidden states of pairs of (better, worse) trajectories, read where a `HeadValue` will read.

    Raises `DecodeError` where the engine gives none, as for a trajectory that does not fit the context.
    """
    tokens = StepEnds(policy)
    jobs = [
        Job(tokens(chain), max_tokens=0, hidden=True, adapter=policy.adapter)
        for pair in pairs
        for chain in pair
    ]
    results = policy.engine.complete(jobs) if jobs else []
    hidden = [result.hidden for result in results if result.hidden is not None]
    if len(hidden) < len(jobs):
        raise DecodeError("the engine gave no hidden state for some trajectories; leave out those too long")
    rows = np.array(hidden, dtype=np.float32).reshape(len(pairs), 2, policy.file.width)
    return RewardPairs(rows[:, 0], rows[:, 1])


def train_reward(
    pairs: RewardPairs, config: ValueConfig, report: Callable[[Epoch], None] = lambda epoch: None
) -> HeadWeights:
    """A head whose value of a better trajectory is above that of a worse one; see `train_ensemble`.

    The loss is the mean of −log σ(R⁺ − R⁻), and .001 · |mean of R⁺ + R⁻|, so that ½ parts good from bad.
    Raises `InputError` without pairs, and where in all of them both trajectories are the same.
    """
    if not (pairs.better != pairs.worse).any():
        raise InputError("no pair tells a better trajectory from a worse one; give pairs that differ")
    better, worse = torch.from_numpy(pairs.better), torch.from_numpy(pairs.worse)

    def loss(model: Model, rows: torch.Tensor) -> torch.Tensor:
        rewards = model(torch.cat((better[rows], worse[rows]))).view(2, -1)
        apart = nn.functional.softplus(rewards[1] - rewards[0]).mean()
        return apart + _CENTRING * rewards.sum(0).mean().abs()

    return train_ensemble(torch.cat((better, worse)), len(better), loss, config, report)
