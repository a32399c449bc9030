"""Supervised fine-tuning: what is learned, and that a broken run can go on."""

from collections.abc import Callable
from functools import partial
from itertools import cycle, pairwise
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from rlm_agent.structure.errors import CheckpointError
from rlm_agent.training.decoder import Decoder, DecoderConfig
from rlm_agent.training.puzzles import Example
from rlm_agent.training.sft import Progress, SFTConfig, train
from rlm_agent.training.tokenizer import BOS, EOS, encode

SHORT = Example("5 6 : 30\n", "6 * 5 = 30")
LONG = Example("4 9 10 13 : 24\n", "13 - 9 = 4 | 4 4 10\n10 - 4 = 6 | 4 6\n4 * 6 = 24")


Fit = Callable[..., Decoder]


class InterruptionError(Exception):
    """Stands for whatever ends a run before its time."""


@pytest.fixture
def fit(tokenizer: Tokenizer, tmp_path: Path) -> Fit:
    """`train` a tiny decoder, with the checkpoint in the test's own folder unless told otherwise."""
    sizes = {"width": 16, "layers": 2, "heads": 2, "feed_forward": 24, "context": 64}
    config = DecoderConfig(vocabulary=tokenizer.get_vocab_size(), **sizes)
    return partial(train, tokenizer=tokenizer, sizes=config, checkpoint=tmp_path / "policy.pt")


def _interrupt_at(step: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.step == step:
            raise InterruptionError

    return report


def test_a_resumed_run_ends_as_an_unbroken_one(fit: Fit, worked: list[Example], tmp_path: Path) -> None:
    config = SFTConfig(steps=22, batch=4, warmup=2)  # more batches than are drawn together
    whole = fit(iter(worked), config=config, checkpoint=tmp_path / "whole.pt")
    for stop in (11, 18):  # the next run goes on from 8, then from 16
        with pytest.raises(InterruptionError):
            fit(iter(worked), config=config, every=4, report=_interrupt_at(stop))
    seen: list[int] = []
    resumed = fit(iter(worked), config=config, report=lambda progress: seen.append(progress.step))
    assert seen == [17, 18, 19, 20, 21, 22]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_finished_run_is_loaded_and_not_trained_further(
    fit: Fit, worked: list[Example], tmp_path: Path
) -> None:
    config = SFTConfig(steps=2, batch=2)
    first = fit(iter(worked), config=config).state_dict()
    again = fit(iter(worked), config=config, report=_interrupt_at(3)).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert list(tmp_path.iterdir()) == [tmp_path / "policy.pt"]


def test_a_run_with_other_settings_is_not_gone_on_with(fit: Fit, worked: list[Example]) -> None:
    fit(iter(worked), config=SFTConfig(steps=2, batch=2))
    with pytest.raises(CheckpointError, match="other settings"):
        fit(iter(worked), config=SFTConfig(steps=2, batch=2, seed=1))


def test_prompts_and_padding_carry_no_loss(fit: Fit, tokenizer: Tokenizer) -> None:
    """With learning rates of zero every reported loss is that of the untrained model on its batch."""
    config = SFTConfig(steps=16, batch=2, matrix_lr=0.0, other_lr=0.0)
    smoothed: list[float] = []
    model = fit(
        cycle([SHORT, LONG, LONG]), config=config, report=lambda progress: smoothed.append(progress.loss)
    )
    losses = [smoothed[0], *((after - 0.98 * before) / 0.02 for before, after in pairwise(smoothed))]
    short, long = (_losses(model, tokenizer, example) for example in (SHORT, LONG))
    mixed = float(torch.cat((short, long)).mean())
    for loss in losses:
        assert min(abs(loss - value) for value in (float(short.mean()), float(long.mean()), mixed)) < 1e-5
    assert min(abs(loss - mixed) for loss in losses) < 1e-5, "no batch had padding"


def test_a_few_dozen_steps_learn_one_solution(fit: Fit, tokenizer: Tokenizer) -> None:
    model = fit(cycle([SHORT]), config=SFTConfig(steps=60, batch=2, other_lr=0.03, warmup=5))
    assert _losses(model, tokenizer, SHORT).mean() < 0.5


def _losses(model: Decoder, tokenizer: Tokenizer, example: Example) -> Tensor:
    """Nats at each token of the solution and at its end, computed without a batch."""
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    solution = [*encode(tokenizer, example.solution), eos]
    ids = [bos, *encode(tokenizer, example.prompt), *solution]
    with torch.no_grad():
        spread = -model.logits(model(torch.tensor([ids[:-1]])))[0].log_softmax(-1)
    return spread[-len(solution) :].gather(1, torch.tensor(solution)[:, None])[:, 0]
