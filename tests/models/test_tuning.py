"""Settings that are chosen when a model is loaded."""

from pathlib import Path

import pytest

from rlm_agent.models.gguf.engine import pace, tuning
from rlm_agent.models.gguf.engine.context import Context
from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.models.gguf.file import binding
from rlm_agent.models.gguf.policy import GGUFPolicy


def test_exact_is_the_default_and_in_the_identity(tiny: Path) -> None:
    exact, fast = GGUFPolicy(tiny), GGUFPolicy(tiny, exact=False)
    assert exact.engine.settings.exact
    assert not fast.engine.settings.exact
    assert exact.identity != fast.identity
    exact.close()
    fast.close()


@pytest.mark.parametrize("known", [True, False])
def test_exact_is_the_plain_kernel_over_pages_where_we_know_how_it_sums(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    info = b"AVX = 1 | AVX2 = 1 | LLAMAFILE = 1" if known else b"NEON = 1 | LLAMAFILE = 1"
    monkeypatch.setattr(binding(), "llama_print_system_info", lambda: info)
    engine = Engine(tiny)
    assert engine.settings.exact
    assert (engine.settings.flash, engine.settings.page) == ((False, 16) if known else (True, 1))
    assert engine.settings.identity == ("plain:63:exact" if known else "flash:63:exact")
    engine.close()


@pytest.mark.parametrize(
    ("alike", "identity"),
    [
        ("aaaa", "63:exact"),
        ("aabb", "8-63:exact"),
        ("aabc", "7:exact"),
        ("abab", "63"),
    ],
)
def test_exact_is_only_called_what_comes_out_alike(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, alike: str, identity: str
) -> None:
    """By what comes of a row among two, three, eight and nine."""
    found = dict(zip((2, 3, 8, 9), alike, strict=True))
    monkeypatch.setattr(tuning, "_first_of", lambda context, rows: found[rows])
    engine = Engine(tiny)
    assert engine.settings.identity.split(":", 1)[1] == identity
    engine.close()


def test_flash_attention_saves_memory_over_very_many_cells(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_MOST_PLAIN", 500)
    few, many = Engine(tiny, context=500), Engine(tiny, context=501)
    assert (few.settings.flash, many.settings.flash) == (few.settings.page == 1, True)
    few.close()
    many.close()


@pytest.mark.parametrize("flash", [True, False])
def test_the_faster_kernel_is_taken_where_exactness_is_given_up(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, flash: bool
) -> None:
    timed = iter([1.0, 2.0] if flash else [2.0, 1.0])
    monkeypatch.setattr(tuning, "_seconds", lambda context, copies: next(timed))
    engine = Engine(tiny, exact=False, threads=1)
    assert engine.settings.flash == flash
    engine.close()


def test_the_fastest_number_of_threads_is_taken_but_for_large_files(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "cores", lambda: 6)
    timed = iter([4.0, 1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0])
    monkeypatch.setattr(tuning, "_seconds", lambda context, copies: next(timed))
    two, six, given = Engine(tiny), Engine(tiny), Engine(tiny, threads=3)
    assert next(timed, None) is None
    monkeypatch.setattr(tuning, "_LARGE_FILE", 0)
    large = Engine(tiny)
    engines = (two, six, given, large)
    assert [engine.settings.threads for engine in engines] == [2, 6, 3, 6]
    for engine in engines:
        engine.close()


@pytest.mark.parametrize("given", [None, 2])
def test_only_threads_that_were_not_given_are_taken_back_when_cores_are_busy(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, given: int | None
) -> None:
    monkeypatch.setattr(tuning, "cores", lambda: 2)
    timed = iter([2.0, 1.0])
    monkeypatch.setattr(tuning, "_seconds", lambda context, copies: next(timed))
    used: list[int] = []
    monkeypatch.setattr(Context, "use_threads", lambda self, threads: used.append(threads))
    monkeypatch.setattr(pace, "_BEARABLE", -1.0)  # whatever happens is too much
    engine = Engine(tiny, threads=given)
    assert engine.complete([Job((5, 6), 4)])[0].tokens
    assert used == ([1, 2, 2, 1] if given is None else [])
    engine.close()


def test_kernels_are_timed_for_real_and_the_context_is_left_clear(tiny: Path) -> None:
    engine = Engine(tiny, exact=False)
    assert engine._cache.room == engine._cache._cells.size
    engine.close()
