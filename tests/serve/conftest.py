"""Real servers on a free port of this machine."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from rlm_agent.evaluation.strategies import parse_strategy
from rlm_agent.graphs.machine.common import Model
from rlm_agent.serve.application import create_app
from rlm_agent.serve.catalogue import Catalogue
from rlm_agent.serve.keys import Keyring
from rlm_agent.serve.limits import Limits
from rlm_agent.serve.running import in_background

Serve = Callable[..., str]


@contextmanager
def running(
    models: dict[str, Model],
    *strategies: str,
    limits: Limits | None = None,
    keyring: Keyring | None = None,
) -> Iterator[str]:
    """The URL of a server with these models, for as long as it runs."""
    catalogue = Catalogue(models, [parse_strategy(text) for text in strategies])
    with in_background(create_app(catalogue, keyring=keyring, limits=limits), limits) as url:
        yield url


@pytest.fixture(scope="module")
def mini() -> Iterator[str]:
    """A server of `mini` with all strategies that it can be used by."""
    with running({"mini": "mini"}) as url:
        yield url


@pytest.fixture(scope="module")
def web(mini: str) -> Iterator[httpx.Client]:
    """A plain client of that server."""
    with httpx.Client(base_url=mini, timeout=60) as client:
        yield client


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that end with the test."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(running(*args, **kwargs))


def until(fulfilled: Callable[[], bool], seconds: float = 5.0) -> float:
    """How long it took until something was so; fails where it took longer."""
    started = time.monotonic()
    while not fulfilled():
        assert time.monotonic() - started < seconds
        time.sleep(0.01)
    return time.monotonic() - started
