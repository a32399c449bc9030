"""A model of random weights that is small enough for every contender."""

from pathlib import Path

import pytest

from rlm_agent.bench.models import make_random_model
from rlm_agent.models.gguf.writing import Sizes

TINY = Sizes(width=64, layers=2, heads=2, feed_forward=96, vocabulary=320, context=512)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of 90,432 random weights."""
    path = tmp_path_factory.mktemp("random") / "tiny.gguf"
    make_random_model(path, TINY)
    return path
