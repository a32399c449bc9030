"""What the training tests share: worked puzzles, a stream of examples, and a tokenizer trained on it."""

import random
from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from tokenizers import Tokenizer

from rlm_agent.training.puzzles import HeldOut, Worked, worked
from rlm_agent.training.skills import Example, examples
from rlm_agent.training.tokenizer import train_tokenizer


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices are slower on more threads, and their sums may come out in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def solved() -> list[Worked]:
    """A thousand training puzzles with their solutions."""
    return list(islice(worked(random.Random(0), HeldOut()), 1000))


@pytest.fixture(scope="session")
def stream() -> list[Example]:
    """The first two thousand examples of seed 0."""
    return list(islice(examples(0), 2000))


@pytest.fixture(scope="session")
def tokenizer(stream: list[Example]) -> Tokenizer:
    """Trained as `mini`'s is, on fewer examples; its tokens are the same kinds of text."""
    return train_tokenizer("\n".join(line.text for line in example) for example in stream)
