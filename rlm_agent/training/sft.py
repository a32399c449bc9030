"""Supervised fine-tuning of a decoder from scratch on worked problems.

What it leaves out of the textbook method: no pretrained model to start from, no dropout (examples are
generated and hardly repeat), no gradient accumulation, no validation loss (the figure that counts is
`rlm-agent eval --split validation`).
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from rlm_agent.structure.errors import CheckpointError
from rlm_agent.training.decoder import Decoder, DecoderConfig
from rlm_agent.training.muon import Muon
from rlm_agent.training.puzzles import Example
from rlm_agent.training.tokenizer import BOS, EOS, PAD, SPECIAL_TOKENS, encode

IGNORED = -100
_POOL = 16  # batches drawn together, sorted by length and shuffled, so that little is padding


@dataclass(frozen=True, slots=True)
class SFTConfig:
    """Hyper-parameters; the defaults made `mini`."""

    steps: int = 4000
    batch: int = 128
    matrix_lr: float = 0.02
    other_lr: float = 3e-3
    warmup: int = 50
    clip: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Reported after every step: the smoothed loss in nats a token, tokens a second so far."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds: float


def train(
    examples: Iterator[Example],
    tokenizer: Tokenizer,
    config: SFTConfig,
    sizes: DecoderConfig,
    *,
    checkpoint: Path,
    every: int = 200,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Decoder:
    """Train and return the decoder, going on from `checkpoint` where that file exists.

    The checkpoint is replaced atomically every `every` steps; a resumed run sees the batches that an
    unbroken one would have seen. Loss is on the solution and its end-of-answer, not on the prompt. Raises
    `CheckpointError` where the file was made with other settings.
    """
    torch.manual_seed(config.seed)
    model = Decoder(sizes)
    optimizers = _optimizers(model, config)
    batches = _batches(examples, tokenizer, config)
    done = _restore(checkpoint, model, optimizers, _settings(config, sizes))
    for _ in range(done):
        next(batches)
    smoothed, tokens, started = None, 0, time.monotonic()
    for step in range(done, config.steps):
        inputs, targets = next(batches)
        loss = _update(model, optimizers, inputs, targets, config, step)
        smoothed = loss if smoothed is None else 0.98 * smoothed + 0.02 * loss
        tokens += int((inputs != 0).sum())
        seconds = time.monotonic() - started
        report(Progress(step + 1, config.steps, smoothed, tokens / seconds, seconds))
        if (step + 1) % every == 0 or step + 1 == config.steps:
            _save(checkpoint, model, optimizers, step + 1, _settings(config, sizes))
    return model


def _optimizers(model: Decoder, config: SFTConfig) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
    others = [p for n, p in model.named_parameters() if p.dim() == 1 or n.startswith("embedding")]
    return [
        Muon(matrices, lr=config.matrix_lr),
        torch.optim.AdamW(others, lr=config.other_lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _update(
    model: Decoder,
    optimizers: list[torch.optim.Optimizer],
    inputs: Tensor,
    targets: Tensor,
    config: SFTConfig,
    step: int,
) -> float:
    """One step at the scheduled learning rate: warm-up, then linear to zero."""
    scale = min(1.0, (step + 1) / config.warmup) * (1 - step / config.steps)
    for optimizer, lr in zip(optimizers, (config.matrix_lr, config.other_lr), strict=True):
        optimizer.param_groups[0]["lr"] = lr * scale
        optimizer.zero_grad()
    learned = targets != IGNORED
    logits = model.logits(model(inputs)[learned])
    loss = functional.cross_entropy(logits, targets[learned])
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    for optimizer in optimizers:
        optimizer.step()
    return float(loss.detach())


def _batches(
    examples: Iterator[Example], tokenizer: Tokenizer, config: SFTConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    rng = random.Random(f"batches/{config.seed}")
    pad, bos, eos = (SPECIAL_TOKENS.index(token) for token in (PAD, BOS, EOS))
    while True:
        pool = []
        for _ in range(config.batch * _POOL):
            example = next(examples)
            prompt = [bos, *encode(tokenizer, example.prompt)]
            pool.append((len(prompt), [*prompt, *encode(tokenizer, example.solution), eos]))
        pool.sort(key=lambda item: len(item[1]))
        starts = list(range(0, len(pool), config.batch))
        rng.shuffle(starts)
        for start in starts:
            yield _tensors(pool[start : start + config.batch], pad)


def _tensors(rows: list[tuple[int, list[int]]], pad: int) -> tuple[Tensor, Tensor]:
    longest = max(len(ids) for _, ids in rows)
    tokens = torch.full((len(rows), longest), pad)
    targets = torch.full((len(rows), longest), IGNORED)
    for row, (prompt, ids) in enumerate(rows):
        tokens[row, : len(ids)] = torch.tensor(ids)
        targets[row, prompt : len(ids)] = torch.tensor(ids[prompt:])
    return tokens[:, :-1], targets[:, 1:]


def _save(
    path: Path,
    model: Decoder,
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


def _restore(path: Path, model: Decoder, optimizers: list[torch.optim.Optimizer], settings: str) -> int:
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
