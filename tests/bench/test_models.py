"""Models of random weights are models."""

from pathlib import Path

import numpy as np

from rlm_agent.bench.models import SIZES, make_random_model
from rlm_agent.models.gguf.engine.cells import Row
from rlm_agent.models.gguf.engine.context import Context
from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.models.gguf.writing import Sizes


def logits(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """What stands after each of eight tokens, [8, vocabulary]."""
    file = ModelFile(path)
    context = Context(file, cells=64, batch=16, threads=1, flash_attention=True)
    sequence = context.cells.open()
    computed = context.decode([Row(10 + position, position, sequence, True) for position in range(8)])
    context.close()
    file.close()
    return computed.logits.reshape(8, -1)


def test_logits_are_finite_and_neither_even_nor_sharp(random_model: Path) -> None:
    values = logits(random_model)
    assert values.shape == (8, 320)
    assert np.isfinite(values).all()
    assert values.std(axis=1).min() > 0.7
    assert values.std(axis=1).max() < 3
    assert len(set(values.argmax(axis=1).tolist())) > 1


def test_same_seed_is_the_same_file_and_another_is_not(random_model: Path, tmp_path: Path) -> None:
    size = Sizes(width=64, layers=2, heads=2, feed_forward=96, vocabulary=320, context=512)
    make_random_model(tmp_path / "same.gguf", size)
    make_random_model(tmp_path / "other.gguf", size, seed=1)
    assert (tmp_path / "same.gguf").read_bytes() == random_model.read_bytes()
    assert (tmp_path / "other.gguf").read_bytes() != random_model.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"same.gguf", "other.gguf"}


def test_text_is_made_of_bytes_and_comes_back(random_model: Path) -> None:
    file = ModelFile(random_model)
    text = "Where?\nOver the fields, naïvely."
    assert b"".join(file.piece(token) for token in file.tokenize(text)).decode() == text
    assert file.ends(1)
    file.close()


def test_sizes_have_the_weights_that_they_are_named_for(tmp_path: Path) -> None:
    for name, size in SIZES.items():
        block = 4 * size.width**2 + 3 * size.width * size.feed_forward
        assert abs((size.vocabulary * size.width + size.layers * block) / (int(name[:-1]) * 1e6) - 1) < 0.02
    make_random_model(tmp_path / "5m.gguf", SIZES["5m"])
    file = ModelFile(tmp_path / "5m.gguf")
    assert file.size == 4096
    assert abs(binding().llama_model_n_params(file.handle) / 5e6 - 1) < 0.02
    file.close()
