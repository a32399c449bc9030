"""Supervised fine-tuning: what is learned, and that a broken run can go on."""

from collections.abc import Callable
from functools import partial
from itertools import cycle, islice, pairwise, product
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from rlm_agent.structure.errors import CheckpointError
from rlm_agent.training.decoder import DecoderConfig
from rlm_agent.training.rows import rows
from rlm_agent.training.sft import Learner, Progress, SFTConfig, batches_of, train
from rlm_agent.training.skills import Example, Line

SHORT = (Line("5 6 : 30"), Line("6 * 5 = 30", learned=True, ends=True))
LONG = (
    Line("4 9 10 13 : 24"),
    Line("13 - 9 = 4 | 4 4 10", learned=True, reach=True),
    Line("10 - 4 = 6 | 4 6", learned=True, reach=True),
    Line("4 * 6 = 24", learned=True, ends=True),
)


Fit = Callable[..., Learner]


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


def test_a_resumed_run_ends_as_an_unbroken_one(fit: Fit, stream: list[Example], tmp_path: Path) -> None:
    config = SFTConfig(steps=22, tokens=256, warmup=2)  # more batches than are drawn together
    whole = fit(iter(stream), config=config, checkpoint=tmp_path / "whole.pt")
    for stop in (11, 18):  # the next run goes on from 8, then from 16
        with pytest.raises(InterruptionError):
            fit(iter(stream), config=config, every=4, report=_interrupt_at(stop))
    seen: list[int] = []
    resumed = fit(iter(stream), config=config, report=lambda progress: seen.append(progress.step))
    assert seen == [17, 18, 19, 20, 21, 22]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_finished_run_is_loaded_and_not_trained_further(
    fit: Fit, stream: list[Example], tmp_path: Path
) -> None:
    config = SFTConfig(steps=2, tokens=128)
    first = fit(iter(stream), config=config).state_dict()
    again = fit(iter(stream), config=config, report=_interrupt_at(3)).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert list(tmp_path.iterdir()) == [tmp_path / "policy.pt"]


def test_a_run_with_other_settings_is_not_gone_on_with(fit: Fit, stream: list[Example]) -> None:
    fit(iter(stream), config=SFTConfig(steps=2, tokens=128))
    with pytest.raises(CheckpointError, match="other settings"):
        fit(iter(stream), config=SFTConfig(steps=2, tokens=128, seed=1))


def test_prompts_and_padding_carry_no_loss(fit: Fit, tokenizer: Tokenizer) -> None:
    """With learning rates of zero every reported loss is that of the untrained model on its batch."""
    config = SFTConfig(steps=16, tokens=70, matrix_lr=0.0, other_lr=0.0)
    smoothed: list[float] = []
    model = fit(
        cycle([SHORT, LONG, LONG]), config=config, report=lambda progress: smoothed.append(progress.loss)
    )
    losses = [smoothed[0], *((after - 0.98 * before) / 0.02 for before, after in pairwise(smoothed))]
    short, long = (_losses(model, tokenizer, example) for example in (SHORT, LONG))
    mixtures = [
        float(torch.cat((*[short] * shorts, *[long] * longs)).mean())
        for shorts, longs in product(range(8), range(3))
        if shorts + longs
    ]
    for loss in losses:
        assert min(abs(loss - value) for value in mixtures) < 1e-4
    alone = (float(short.mean()), float(long.mean()))
    assert any(min(abs(loss - value) for value in alone) > 1e-3 for loss in losses), "no batch had padding"


def test_batches_hold_no_more_tokens_than_asked_for_and_lose_no_row(tokenizer: Tokenizer) -> None:
    examples = [SHORT, LONG, SHORT, LONG, LONG]
    drawn = rows(cycle(examples), tokenizer, longest=64)
    batches = list(islice(batches_of(drawn, SFTConfig(tokens=100)), 200))
    assert all(batch.tokens.numel() <= 100 for batch in batches)
    lengths = [int((row != 0).sum()) for batch in batches for row in batch.tokens]
    shares = [lengths.count(length) / len(lengths) for length in sorted(set(lengths))]
    assert shares == pytest.approx([0.4, 0.6], abs=0.01)


def test_a_few_dozen_steps_learn_one_solution(fit: Fit, tokenizer: Tokenizer) -> None:
    model = fit(cycle([SHORT]), config=SFTConfig(steps=60, tokens=64, other_lr=0.03, warmup=5))
    assert _losses(model, tokenizer, SHORT).mean() < 0.5


def test_what_can_be_reached_is_learned_beside_the_policy(fit: Fit) -> None:
    question, first, *_ = LONG
    lost = Line("13 + 10 = 23 | 4 9 23", reach=False)
    config = SFTConfig(steps=80, tokens=128, other_lr=0.01, warmup=5)
    reports: list[Progress] = []
    fit(cycle([(question, first), (question, lost)]), config=config, report=reports.append)
    assert reports[0].value_loss > 0.6
    assert reports[-1].value_loss < 0.4


@pytest.mark.slow
def test_half_precision_learns_the_same(fit: Fit, tokenizer: Tokenizer) -> None:
    config = SFTConfig(steps=60, tokens=64, other_lr=0.03, warmup=5, bf16=True)
    assert _losses(fit(cycle([SHORT]), config=config), tokenizer, SHORT).mean() < 0.5


def _losses(model: Learner, tokenizer: Tokenizer, example: Example) -> Tensor:
    """Nats at each token of the solution and at its end, computed without a batch."""
    (row,) = rows(iter([example]), tokenizer, longest=64)
    with torch.no_grad():
        spread = -model.decoder.logits(model.decoder(torch.tensor([row.tokens[:-1]])))[0].log_softmax(-1)
    every = spread.gather(1, torch.tensor(row.tokens[1:])[:, None])[:, 0]
    return every[torch.tensor(row.learned[1:])]
