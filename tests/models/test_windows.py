"""Models with sliding windows, whose cells llama.cpp would give away, and models that cannot be branched."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_cpp import Llama

from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.models.protocols import Decoding
from rlm_agent.structure.errors import ModelFileError
from tests.models.models_of import a_tree, write_recurrent, write_windowed

GREEDY = Decoding(temperature=0)


@pytest.fixture(scope="module", params=[40, 24, 10])
def windowed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows longer and shorter than a page."""
    return write_windowed(tmp_path_factory.mktemp("windowed") / "w.gguf", request.param)


@pytest.fixture
def engine(windowed: Path) -> Iterator[Engine]:
    engine = Engine(windowed, context=512, threads=1)
    yield engine
    engine.close()


def test_forks_behind_the_window_equal_fresh_prefills_to_the_bit(engine: Engine) -> None:
    """With a cache far smaller than the tree, so that cells are put aside and loaded again."""
    assert engine.settings.exact
    shared, computed = a_tree(engine, 25, forgetful=False), engine.decoded
    fresh = a_tree(engine, 25, forgetful=True)
    assert shared == fresh
    assert computed < 0.8 * (engine.decoded - computed)


def test_a_window_is_seen_at_all(engine: Engine, windowed: Path, tmp_path: Path) -> None:
    """Another window, other tokens: or else these tests would not be about windows."""
    other = Engine(write_windowed(tmp_path / "other.gguf", 400), context=512, threads=1)
    assert a_tree(engine, 2, forgetful=False) != a_tree(other, 2, forgetful=False)
    other.close()


def test_greedy_tokens_equal_the_librarys(engine: Engine, windowed: Path) -> None:
    llama = Llama(str(windowed), n_ctx=512, n_threads=1, verbose=False, flash_attn=engine.settings.flash)
    prompt = tuple(range(20, 110))
    theirs = [token for token, _ in zip(llama.generate(prompt, temp=0.0), range(60), strict=False)]
    job = Job(prompt, 60, ends=False, decoding=GREEDY)
    assert list(engine.complete([job])[0].tokens) == theirs
    llama.close()


def test_a_model_with_a_running_state_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="serve it with llama-server"):
        Engine(write_recurrent(tmp_path / "r.gguf"))


def test_a_model_that_does_not_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="name a causal language model"):
        Engine(write_windowed(tmp_path / "e.gguf", 40, causal=False))
