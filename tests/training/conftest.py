"""What the training tests share: a stream of worked puzzles and a tokenizer trained on it."""

from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from tokenizers import Tokenizer

from rlm_agent.training.puzzles import Example, examples
from rlm_agent.training.tokenizer import train_tokenizer


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices are slower on more threads, and their sums may come out in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def worked() -> list[Example]:
    """The first few thousand examples of seed 0."""
    return list(islice(examples(0), 4000))


@pytest.fixture(scope="session")
def tokenizer(worked: list[Example]) -> Tokenizer:
    """Trained as `mini`'s is, on fewer puzzles; its tokens are the same kinds of text."""
    return train_tokenizer(example.prompt + example.solution for example in worked)
