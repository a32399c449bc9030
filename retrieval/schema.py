"""The tables of a document store, and how its file is opened."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlm_agent.structure.errors import IndexFileError, InputError

VERSION = 1

# "RLMI": by this SQLite's own header says whose file it is.
_APPLICATION = 0x524C4D49

_BUSY_SECONDS = 60.0

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE documents (name TEXT PRIMARY KEY, digest BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE chunks (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL,
    source TEXT NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,
    content BLOB NOT NULL,
    state BLOB NOT NULL
) STRICT;
CREATE INDEX chunks_by_document ON chunks (document);
CREATE INDEX chunks_by_content ON chunks (content);
CREATE TABLE vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE fields (
    key TEXT NOT NULL, value ANY NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (key, value, row)
) STRICT, WITHOUT ROWID;
CREATE INDEX fields_by_row ON fields (row);
CREATE TABLE graves (number INTEGER PRIMARY KEY AUTOINCREMENT, row INTEGER NOT NULL) STRICT;
"""


def connect(path: Path | None) -> sqlite3.Connection:
    """Open the store at `path` or make one; None is a store in memory.

    Raises `IndexFileError` where the file is damaged, foreign or of another version, or cannot be opened.
    """
    with damaged(path):
        sql = sqlite3.connect(
            path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            # With a write-ahead log readers go on while somebody writes; FULL waits for the disk, so that
            # what was acknowledged outlives a loss of power, too.
            sql.execute("PRAGMA journal_mode = WAL")
            sql.execute("PRAGMA synchronous = FULL")
            # What an attacker wrote into the schema of a file must not run.
            sql.execute("PRAGMA trusted_schema = OFF")
            sql.execute("PRAGMA cell_size_check = ON")
            _prepare(sql, path)
        except BaseException:
            sql.close()
            raise
        return sql


_UNUSABLE = {
    "SQLITE_BUSY": "another process writes to it; try again when that one is done",
    "SQLITE_CANTOPEN": "see that its folder can be written",
    "SQLITE_FULL": "make room on the disk",
    "SQLITE_IOERR": "see that the disk works and has room",
    "SQLITE_READONLY": "see that its folder can be written",
}


@contextmanager
def damaged(path: Path | None) -> Iterator[None]:
    """Errors of SQLite as `IndexFileError`, with the remedy; a store that was closed is `InputError`."""
    name = path or "the index"
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise InputError(f"{name} was closed; open it again") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        code = getattr(error, "sqlite_errorname", "")
        for start, remedy in _UNUSABLE.items():
            if code.startswith(start):
                raise IndexFileError(f"{name} cannot be used ({error}); {remedy}") from error
        raise IndexFileError(
            f"{name} is damaged ({error}); delete it and build the index again from its documents"
        ) from error


def _prepare(sql: sqlite3.Connection, path: Path | None) -> None:
    sql.execute("BEGIN IMMEDIATE")  # of two processes that make a store at once, one waits
    try:
        if not sql.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            for statement in _TABLES.split(";\n"):
                sql.execute(statement)
            sql.execute(f"PRAGMA application_id = {_APPLICATION}")
            sql.execute(f"PRAGMA user_version = {VERSION}")
        _check(sql, path)
    finally:
        sql.execute("COMMIT")


def _check(sql: sqlite3.Connection, path: Path | None) -> None:
    (application,) = sql.execute("PRAGMA application_id").fetchone()
    (version,) = sql.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION:
        raise IndexFileError(f"{path} was not made by rlm-agent; name another folder")
    if version != VERSION:
        raise IndexFileError(
            f"{path} has version {version} and this rlm-agent reads {VERSION}; build the index again"
        )
