"""Models with sliding windows, whose cells llama.cpp would give away, and models that cannot be branched."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from numpy.typing import NDArray

from rlm_agent.bench.models import add_letters
from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.models.gguf.writing import Sizes, add_sizes, gguf_writer
from rlm_agent.models.protocols import Decoding
from rlm_agent.structure.errors import ModelFileError

SIZES = Sizes(width=64, layers=4, heads=2, feed_forward=96, vocabulary=320, context=512)
GREEDY = Decoding(temperature=0)
INNER, STATE, RANK, KERNEL = 128, 4, 4, 4

Tensor = Callable[..., None]


def tensors(writer: GGUFWriter) -> Tensor:
    """Adds a tensor of random numbers by its name and shape."""
    random = np.random.default_rng(0)

    def add(name: str, *shape: int, mean: float = 0.0) -> None:
        values: NDArray[np.float32] = random.standard_normal(shape).astype(np.float32)
        writer.add_tensor(name, values * (2.0 * shape[-1] ** -0.5 if not mean else 0.1) + np.float32(mean))

    add("token_embd.weight", SIZES.vocabulary, SIZES.width)
    add("output_norm.weight", SIZES.width, mean=1.0)
    return add


def write_windowed(path: Path, window: int, *, causal: bool = True) -> Path:
    """Three layers with a sliding window of so many tokens, and one without (cohere2)."""
    with gguf_writer(path, "cohere2") as writer:
        add_sizes(writer, SIZES)
        add_letters(writer, SIZES.vocabulary)
        writer.add_layer_norm_eps(1e-5)
        writer.add_logit_scale(1.0)
        writer.add_sliding_window(window)
        writer.add_causal_attention(causal)
        add, width, inside = tensors(writer), SIZES.width, SIZES.feed_forward
        for layer in range(SIZES.layers):
            add(f"blk.{layer}.attn_norm.weight", width, mean=1.0)
            for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
                add(f"blk.{layer}.{name}.weight", width, width)
            add(f"blk.{layer}.ffn_gate.weight", inside, width)
            add(f"blk.{layer}.ffn_up.weight", inside, width)
            add(f"blk.{layer}.ffn_down.weight", width, inside)
    return path


def write_recurrent(path: Path) -> Path:
    """A state space model of one layer (mamba)."""
    with gguf_writer(path, "mamba") as writer:
        add_sizes(writer, Sizes(**{**{f: getattr(SIZES, f) for f in SIZES.__slots__}, "layers": 1}))
        add_letters(writer, SIZES.vocabulary)
        writer.add_ssm_conv_kernel(KERNEL)
        writer.add_ssm_inner_size(INNER)
        writer.add_ssm_state_size(STATE)
        writer.add_ssm_time_step_rank(RANK)
        add, width = tensors(writer), SIZES.width
        add("blk.0.attn_norm.weight", width, mean=1.0)
        add("blk.0.ssm_in.weight", 2 * INNER, width)
        add("blk.0.ssm_conv1d.weight", INNER, KERNEL)
        add("blk.0.ssm_conv1d.bias", INNER)
        add("blk.0.ssm_x.weight", RANK + 2 * STATE, INNER)
        add("blk.0.ssm_dt.weight", INNER, RANK)
        add("blk.0.ssm_dt.bias", INNER)
        add("blk.0.ssm_a", INNER, STATE, mean=-1.0)
        add("blk.0.ssm_d", INNER, mean=1.0)
        add("blk.0.ssm_out.weight", width, INNER)
    return path


@pytest.fixture(scope="module", params=[40, 24, 10])
def windowed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows longer and shorter than a page."""
    return write_windowed(tmp_path_factory.mktemp("windowed") / "w.gguf", request.param)


@pytest.fixture
def engine(windowed: Path) -> Iterator[Engine]:
    engine = Engine(windowed, context=512, threads=1)
    yield engine
    engine.close()


def a_tree(engine: Engine, rounds: int, *, forgetful: bool) -> list[tuple[int, ...]]:
    """Paths that fork from anywhere on older ones, many windows back, several at a time."""
    random = np.random.default_rng(5)
    paths: list[tuple[int, ...]] = [tuple(random.integers(3, 300, 70).tolist())]
    for turn in range(rounds):
        jobs = []
        for branch in range(4):
            path = paths[random.integers(len(paths))]
            start = path[: random.integers(1, len(path) + 1)]
            jobs.append(Job(start[:200], 30, seed=4 * turn + branch, ends=False))
        if forgetful:
            results = []
            for job in jobs:
                engine.forget()
                results += engine.complete([job])
        else:
            results = engine.complete(jobs)
        paths += [job.prompt + result.tokens for job, result in zip(jobs, results, strict=True)]
    return paths


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
    from llama_cpp import Llama

    llama = Llama(str(windowed), n_ctx=512, n_threads=1, flash_attn=engine.settings.flash)
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
