"""Supervised fine-tuning of a decoder from scratch, on conversations made of worked problems.

A second loss shapes the trunk: at the end of each step a small net reads off the hidden state whether the
target can still be reached. It is dropped after training; the value head is trained on what is left of it.

What it leaves out of the textbook method: no pretrained model to start from, no dropout (examples are
generated and hardly repeat), no gradient accumulation, no validation loss (the figure that counts is
`rlm-agent eval --split validation`).
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from rlm_agent.structure.errors import CheckpointError
from rlm_agent.training.decoder import Decoder, DecoderConfig
from rlm_agent.training.muon import Muon
from rlm_agent.training.rows import Row, rows
from rlm_agent.training.skills import Example
from rlm_agent.training.tokenizer import PAD, SPECIAL_TOKENS
from rlm_agent.training.warm import warm_start

IGNORED = -100
_POOL = 16  # batches drawn together, sorted by length and shuffled, so that little is padding
_VALUE_WIDTH = 128


@dataclass(frozen=True, slots=True)
class SFTConfig:
    """Hyper-parameters; the defaults made `mini`.

    `tokens` bounds a batch, padding counted. `decay` is the share of the steps over which the learning rate
    falls to zero, at the end. `value_weight` is that of the second loss, in nats a labelled
    state against nats a token. `bf16` multiplies matrices in bfloat16, see `has_bf16`.
    """

    steps: int = 3200
    tokens: int = 6144
    matrix_lr: float = 0.015
    other_lr: float = 3e-3
    warmup: int = 50
    decay: float = 0.6
    clip: float = 1.0
    value_weight: float = 0.5
    bf16: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Reported after every step: the smoothed losses of policy, in nats a token, and of value, in nats a
    state; tokens a second so far.
    """

    step: int
    steps: int
    loss: float
    value_loss: float
    tokens_per_second: float
    seconds: float


class Batch(NamedTuple):
    """Token ids [rows, length], the tokens to be learned at each place or `IGNORED`, and whether the target
    is in reach at each place, 1 or 0, or `IGNORED`.
    """

    tokens: Tensor
    targets: Tensor
    reach: Tensor


class Learner(nn.Module):
    """The decoder, and what reads values off it while it is trained."""

    def __init__(self, sizes: DecoderConfig) -> None:
        super().__init__()
        self.decoder = Decoder(sizes)
        self.value = nn.Sequential(
            nn.Linear(sizes.width, _VALUE_WIDTH), nn.SiLU(), nn.Linear(_VALUE_WIDTH, 1)
        )


def has_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16; without them it is slower than float32."""
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def train(
    examples: Iterator[Example],
    tokenizer: Tokenizer,
    config: SFTConfig,
    sizes: DecoderConfig,
    *,
    checkpoint: Path,
    every: int = 200,
    base: Path | None = None,
    compiled: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Learner:
    """Train and return the model, going on from `checkpoint` where that file exists.

    The checkpoint is replaced atomically every `every` steps; a resumed run sees the batches that an
    unbroken one would have seen. Loss is on the learned lines alone. A new run begins with the weights of the
    model file `base`, if there is one; see `warm_start`. `compiled` lets torch compile the
    decoder, for which there must be a C++ compiler, and the last bits of sums may differ. Raises
    `CheckpointError` where the file was made with other settings.
    """
    torch.manual_seed(config.seed)
    model = Learner(sizes)
    if base is not None:
        warm_start(model.decoder, tokenizer, base)
    optimizers = _optimizers(model, config)
    batches = batches_of(rows(examples, tokenizer, longest=sizes.context), config)
    done = _restore(checkpoint, model, optimizers, _settings(config, sizes))
    for _ in range(done):
        next(batches)
    batches = _ahead(batches)
    forward = torch.compile(model.decoder, dynamic=True) if compiled else model.decoder
    smoothed, tokens, started = torch.zeros(2), 0, time.monotonic()
    for step in range(done, config.steps):
        batch = next(batches)
        losses = _update(model, forward, optimizers, batch, config, step)
        smoothed = losses if step == done else 0.98 * smoothed + 0.02 * losses
        tokens += int((batch.tokens != 0).sum())
        seconds = time.monotonic() - started
        loss, of_values = smoothed.tolist()
        report(Progress(step + 1, config.steps, loss, of_values, tokens / seconds, seconds))
        if (step + 1) % every == 0 or step + 1 == config.steps:
            _save(checkpoint, model, optimizers, step + 1, _settings(config, sizes))
    return model


def _optimizers(model: Learner, config: SFTConfig) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.decoder.blocks.parameters() if p.dim() == 2]
    inner = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inner]
    return [
        Muon(matrices, lr=config.matrix_lr),
        torch.optim.AdamW(others, lr=config.other_lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _update(
    model: Learner,
    forward: Callable[[Tensor], Tensor],
    optimizers: list[torch.optim.Optimizer],
    batch: Batch,
    config: SFTConfig,
    step: int,
) -> Tensor:
    """One step at the scheduled learning rate (warm-up, constant, linear to zero); the losses [2]."""
    scale = min(1.0, (step + 1) / config.warmup, (1 - step / config.steps) / config.decay)
    for optimizer, lr in zip(optimizers, (config.matrix_lr, config.other_lr), strict=True):
        optimizer.param_groups[0]["lr"] = lr * scale
        optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
        losses = _losses(model, forward(batch.tokens), batch)
    loss = losses[0] + config.value_weight * losses[1]
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    for optimizer in optimizers:
        optimizer.step()
    return losses.detach()


def _losses(model: Learner, hidden: Tensor, batch: Batch) -> Tensor:
    """The mean losses of policy and value [2]; zero where a batch has nothing of the kind."""
    learned, known = batch.targets != IGNORED, batch.reach != IGNORED
    logits = model.decoder.logits(hidden[learned]).float()
    values = model.value(hidden[known]).float().squeeze(-1)
    policy = functional.cross_entropy(logits, batch.targets[learned], reduction="sum")
    value = functional.binary_cross_entropy_with_logits(values, batch.reach[known], reduction="sum")
    return torch.stack((policy / max(1, len(logits)), value / max(1, len(values))))


def batches_of(drawn: Iterator[Row], config: SFTConfig) -> Iterator[Batch]:
    """Batches of rows of about one length, in an order that the seed decides; no row is lost."""
    rng = random.Random(f"batches/{config.seed}")
    pool: list[Row] = []
    while True:
        missing = config.tokens * _POOL - sum(map(len, pool))
        batches = _cut(sorted([*pool, *_drawn(drawn, missing)], key=len, reverse=True), config.tokens)
        pool = batches.pop()  # the shortest rows, too few for a batch
        rng.shuffle(batches)
        yield from map(_tensors, batches)


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, the next one made while this one is computed with."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches)
        while True:
            batch = coming.result()
            coming = pool.submit(next, batches)
            yield batch


def _drawn(drawn: Iterator[Row], tokens: int) -> Iterator[Row]:
    """As many rows as make up so many tokens."""
    while tokens > 0:
        yield (row := next(drawn))
        tokens -= len(row)


def _cut(pool: list[Row], tokens: int) -> list[list[Row]]:
    """Rows, descending in length, as batches of at most so many tokens with their padding."""
    batches = [pool[:0]]
    for row in pool:
        if batches[-1] and (len(batches[-1]) + 1) * len(batches[-1][0]) > tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


def _tensors(batch: list[Row]) -> Batch:
    shape = len(batch), max(map(len, batch))
    tokens = torch.full(shape, SPECIAL_TOKENS.index(PAD))
    targets, reach = torch.full(shape, IGNORED), torch.full(shape, float(IGNORED))
    for number, row in enumerate(batch):
        tokens[number, : len(row)] = torch.tensor(row.tokens)
        learned = [token if learn else IGNORED for token, learn in zip(row.tokens, row.learned, strict=True)]
        targets[number, : len(row) - 1] = torch.tensor(learned[1:])
        for place, value in row.reach.items():
            reach[number, place] = value
    return Batch(tokens, targets, reach)


def _save(
    path: Path,
    model: Learner,
    optimizers: list[torch.optim.Optimizer],
    step: int,
    settings: str,
) -> None:
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "config": settings,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _settings(config: SFTConfig, sizes: DecoderConfig) -> str:
    return json.dumps([asdict(config), asdict(sizes)])


def _restore(path: Path, model: Learner, optimizers: list[torch.optim.Optimizer], settings: str) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state["config"] != settings:
        raise CheckpointError(
            f"{path} was trained with other settings; name another folder, or the same settings"
        )
    model.load_state_dict(state["model"])
    for optimizer, stored in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(stored)
    return int(state["step"])
