"""Training a value head: small MLPs on a frozen policy's hidden states.

The value of a state is the chance that the policy's own rollout from it ends well, which for undiscounted
returns of 0 or 1 is also the Q of the step that led there: V(s') = Q(s, a) (blueprint §1, models).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlm_agent.models.gguf.values.heads import ValueHead
from rlm_agent.models.gguf.values.mlp import HeadWeights
from rlm_agent.structure.errors import InputError
from rlm_agent.training.heads import weights_of
from rlm_agent.training.rollouts import Labels


@dataclass(frozen=True, slots=True)
class ValueConfig:
    """Sizes and settings; `noise` is in standard deviations of each input."""

    width: int = 256
    members: int = 4
    epochs: int = 20
    batch: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    noise: float = 0.2
    dropout: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """How far the training of a member has come; `loss` is the mean of its batches', in nats."""

    member: int
    epoch: int
    loss: float


Model = Callable[[torch.Tensor], torch.Tensor]
"""From hidden states [n, width] to logits [n], with noise and dropout while it is trained."""

Loss = Callable[[Model, torch.Tensor], torch.Tensor]
"""The loss of a model on a batch, which is given by its rows [n]."""


def train_head(
    labels: Labels, config: ValueConfig, report: Callable[[Epoch], None] = lambda epoch: None
) -> HeadWeights:
    """An ensemble of MLPs with two hidden layers, each trained from its own seed on all labels.

    The loss is the binary cross-entropy against the share of right runs, weighted by the runs. Raises
    `InputError` for labels that are all alike, which teach nothing.
    """
    if not 0 < labels.right.sum() < labels.runs.sum():
        raise InputError("all rollouts end alike; label other problems, or sample more chains")
    hidden = torch.from_numpy(labels.hidden)
    shares = torch.from_numpy(labels.right / labels.runs).float()
    runs = torch.from_numpy(labels.runs).float()

    def loss(model: Model, rows: torch.Tensor) -> torch.Tensor:
        losses = nn.functional.binary_cross_entropy_with_logits(
            model(hidden[rows]), shares[rows], reduction="none"
        )
        return (losses * runs[rows]).sum() / runs[rows].sum()

    return train_ensemble(hidden, len(hidden), loss, config, report)


def train_ensemble(
    hidden: torch.Tensor,
    count: int,
    loss: Loss,
    config: ValueConfig,
    report: Callable[[Epoch], None] = lambda epoch: None,
) -> HeadWeights:
    """MLPs that minimise a loss over `count` rows, each from its own seed.

    Inputs are normalised by the mean and the spread of `hidden` [n, width] while training; the scale is
    folded into the first layer, so that the head reads them as they are.
    """
    scale = hidden.mean(0), hidden.std(0).clamp_min(1e-6)
    members = [_train_member(scale, count, loss, config, number, report) for number in range(config.members)]
    for member in members:
        _fold(member[0], *scale)
    return weights_of([member.state_dict() for member in members])


def calibrated(weights: HeadWeights, labels: Labels) -> HeadWeights:
    """The head with its logits scaled and shifted to fit labels of questions that the policy has not learned.

    On its own training questions a policy is right more often than elsewhere, and a head that learned there
    promises too much (Platt scaling; Guo et al., arXiv 1706.04599). Chains that have not begun are left out:
    nothing is known of them.
    """
    known = labels.where(labels.depths > 0)
    said = torch.from_numpy(ValueHead(weights).probabilities(known.hidden)[:, :, 0])
    logits = torch.logit(said, eps=1e-9)
    shares, runs = torch.from_numpy(known.right / known.runs), torch.from_numpy(known.runs)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, shift], max_iter=100)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        values = torch.sigmoid(scale * logits + shift).mean(1).clamp(1e-9, 1 - 1e-9)
        result = nn.functional.binary_cross_entropy(values, shares, runs.double())
        result.backward()  # type: ignore[no-untyped-call]
        return result

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    factor, offset = np.float32(scale.item()), np.float32(shift.item())
    members = tuple(
        (*member[:-1], (member[-1][0] * factor, member[-1][1] * factor + offset))
        for member in weights.members
    )
    return HeadWeights(members, weights.activation)


def quality(weights: HeadWeights, labels: Labels) -> dict[int, float]:
    """The AUROC of a head by the number of steps done, best on questions that nobody has learned."""
    values = ValueHead(weights).apply(labels.hidden)
    depths = {int(depth): labels.depths == depth for depth in np.unique(labels.depths)}
    return {
        depth: auroc(values[rows], labels.right[rows], labels.runs[rows]) for depth, rows in depths.items()
    }


def auroc(scores: NDArray[np.float64], right: NDArray[np.int32], runs: NDArray[np.int32]) -> float:
    """The chance that a right run's score is above a wrong run's, ties counting half; NaN without both."""
    order = np.argsort(scores, kind="stable")
    values, first = np.unique(scores[order], return_index=True)
    wins = np.add.reduceat(right[order].astype(np.float64), first)
    losses = np.add.reduceat((runs - right)[order].astype(np.float64), first)
    below = np.concatenate([[0.0], np.cumsum(losses)[:-1]])
    pairs = wins.sum() * losses.sum()
    return float((wins * (below + losses / 2)).sum() / pairs) if pairs and len(values) else float("nan")


Scale = tuple[torch.Tensor, torch.Tensor]
"""Mean and standard deviation of hidden states, [width] each."""


def _train_member(
    scale: Scale,
    count: int,
    loss: Loss,
    config: ValueConfig,
    number: int,
    report: Callable[[Epoch], None],
) -> nn.Sequential:
    generator = torch.Generator().manual_seed(config.seed * 1000 + number)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed * 1000 + number)
        network = _mlp(len(scale[0]), config)

        def model(hidden: torch.Tensor) -> torch.Tensor:
            inputs = (hidden - scale[0]) / scale[1]
            logits: torch.Tensor = network(inputs + config.noise * torch.randn_like(inputs)).squeeze(1)
            return logits

        steps = config.epochs * -(-count // config.batch)
        optimizer = torch.optim.AdamW(
            network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for epoch in range(config.epochs):
            order = torch.randperm(count, generator=generator)
            losses = [
                _step(loss(model, rows), optimizer, schedule) for rows in torch.split(order, config.batch)
            ]
            report(Epoch(number, epoch + 1, sum(losses) / len(losses)))
    return network.eval()


def _mlp(inputs: int, config: ValueConfig) -> nn.Sequential:
    width, dropout = config.width, config.dropout
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Linear(width, 1),
    )


def _step(
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    schedule.step()
    return float(loss.detach())


def _fold(layer: nn.Module, mean: torch.Tensor, scale: torch.Tensor) -> None:
    """Let a layer that was trained on (x - mean) / scale read x."""
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.div_(scale)
        layer.bias.sub_(layer.weight @ mean)
