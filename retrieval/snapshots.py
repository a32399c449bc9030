"""Files derived from the store, kept beside it so that they need not be made again.

A snapshot is written whole to a file of its own and synced to disk; then the store, in a transaction, notes
its name, its checksum and how far it goes. So at any moment the store names a whole file or none, and a
file that is missing, damaged or foreign only costs the time to make it anew.
"""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from rlm_agent.retrieval.store import Store
from rlm_agent.structure.errors import IndexFileError

Made = TypeVar("Made")

_log = logging.getLogger(__name__)
_NAME = re.compile(r"(vectors|lexical)-[0-9a-f]{16}")
_HOUR = 3600


class Snapshots:
    """The snapshots of a store, in its folder; of a store in memory there are none."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.path.parent if store.path else None

    def load(
        self, name: str, read: Callable[[Path, dict[str, Any]], Made]
    ) -> tuple[Made, dict[str, Any]] | None:
        """What `read` makes of the file of this name and of the facts noted with it, and the facts.

        None where there is none that can be used; `read` says so by `ValueError`, `KeyError` or `TypeError`.
        """
        noted = self._store.get(f"snapshot:{name}")
        if self._folder is None or noted is None:
            return None
        try:
            facts: dict[str, Any] = json.loads(noted)
            if not _NAME.fullmatch(facts["file"]):
                raise ValueError(f"{facts['file']!r} is no snapshot")
            path = self._folder / facts["file"]
            if _checksum(path) != facts["sha256"]:
                raise ValueError(f"the checksum of {path} is wrong")
            return read(path, facts), facts
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s; it is made anew from the document store", error)
            return None

    def save(self, name: str, write: Callable[[Path], None], facts: dict[str, Any]) -> None:
        """Keep what `write` puts into a file, and plain JSON with it, in place of what was kept before.

        Where that fails, as on a full disk, there is no snapshot, and nothing else is lost.
        """
        if self._folder is None:
            return
        partial = self._folder / f".{name}-{os.getpid()}.partial"
        try:
            write(partial)
            checksum = _checksum(partial)
            final = self._folder / f"{name}-{checksum[:16]}"
            _into_place(partial, final)
            with self._store.writing() as writer:
                noted = {**facts, "file": final.name, "sha256": checksum}
                writer.put(f"snapshot:{name}", json.dumps(noted))
            self._tidy(name, final)
        except (OSError, RuntimeError, IndexFileError) as error:
            _log.warning("the index of %s is not kept (%s); it will be made anew next time", name, error)
        finally:
            partial.unlink(missing_ok=True)

    def _tidy(self, name: str, final: Path) -> None:
        """Remove older snapshots, and what processes left that were killed while they wrote one."""
        assert self._folder is not None
        left = [path for path in self._folder.glob(f".{name}-*.partial") if _age(path) > _HOUR]
        for path in [*left, *self._folder.glob(f"{name}-*")]:
            if path != final:
                path.unlink(missing_ok=True)


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _into_place(partial: Path, final: Path) -> None:
    """Rename a file when its contents are on the disk, and sync the folder, so that the name is, too."""
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(final)
    with suppress(OSError):  # folders cannot be opened on Windows
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _age(path: Path) -> float:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime
    return 0.0
