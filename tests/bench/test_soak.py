"""The soak at a small scale: that it works on, and that it would see a leak."""

import random
from pathlib import Path

import pytest

from benchmarks.soak import FLAT, LINES, Sample, growth, soak
from rlm_agent.models.gguf.engine.engine import Engine


def samples(leak: float) -> list[Sample]:
    """A million tokens: memory that fills at first, jumps about by 2%, and leaks so many bytes a token."""
    draw = random.Random(0)
    tokens = range(50_000, 1_050_000, 50_000)
    return [(n, int((80 + min(n / 10_000, 20) + draw.random() * 2) * 2**20 + leak * n)) for n in tokens]


@pytest.mark.parametrize(("leak", "flat"), [(0, True), (16, False), (100, False)])
def test_growth_tells_a_leak_from_noise(leak: float, flat: bool) -> None:
    slope, share = growth(samples(leak))
    assert slope == pytest.approx(leak, abs=2)
    assert (share <= FLAT) == flat


def test_soak_decodes_what_it_was_asked_and_tells_of_each_twentieth(
    random_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine(random_model, context=512, threads=1)
    found = soak(engine, 4000, seed=0)
    assert [size > 0 for _, size in found] == [True] * LINES
    assert all(tokens >= 4000 * line // LINES for line, (tokens, _) in enumerate(found, 1))
    assert capsys.readouterr().out.count("MiB") == LINES
    engine.close()
