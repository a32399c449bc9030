"""Settings that are chosen when a model is loaded."""

from pathlib import Path

import pytest

from rlm_agent.models.gguf.engine import tuning
from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.policy import GGUFPolicy


def test_exact_is_the_default_and_in_the_identity(tiny: Path) -> None:
    exact, fast = GGUFPolicy(tiny), GGUFPolicy(tiny, exact=False)
    assert exact.engine.settings.exact
    assert exact.engine.settings.flash
    assert not fast.engine.settings.exact
    assert exact.identity != fast.identity
    exact.close()
    fast.close()


@pytest.mark.parametrize("flash", [True, False])
def test_the_faster_kernel_is_taken_where_exactness_is_given_up(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, flash: bool
) -> None:
    timed = iter([1.0, 2.0] if flash else [2.0, 1.0])
    monkeypatch.setattr(tuning, "_seconds", lambda context, copies: next(timed))
    engine = Engine(tiny, exact=False, threads=1)
    assert engine.settings.flash == flash
    engine.close()


def test_threads_are_measured_between_small_and_large_files(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_cores", lambda: 4)
    small = Engine(tiny)
    monkeypatch.setattr(tuning, "_SMALL_FILE", 0)
    timed = iter([2.0, 1.0, 1.0, 2.0])
    monkeypatch.setattr(tuning, "_seconds", lambda context, copies: next(timed))
    many, one = Engine(tiny), Engine(tiny)
    monkeypatch.setattr(tuning, "_LARGE_FILE", 0)
    large, given = Engine(tiny), Engine(tiny, threads=3)
    engines = (small, many, one, large, given)
    assert [engine.settings.threads for engine in engines] == [1, 4, 1, 4, 3]
    for engine in engines:
        engine.close()


def test_kernels_are_timed_for_real_and_the_context_is_left_clear(tiny: Path) -> None:
    engine = Engine(tiny, exact=False)
    assert engine._cache._context.room == engine._cache._context.cells
    engine.close()
