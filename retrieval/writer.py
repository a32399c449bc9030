"""What may be written to a document store, within one transaction."""

import json
import sqlite3
import zlib

import numpy as np
from numpy.typing import NDArray

from rlm_agent.retrieval.chunks import Chunk, plain_json
from rlm_agent.retrieval.filters import field_rows

Vectors = NDArray[np.float32]


class Writer:
    """Writes to the tables of a store; nothing of it is seen elsewhere before the transaction ends.

    Keeps the fingerprint: the exclusive or of the states of all chunks. It follows from what the store holds,
    in whatever order that was written, and costs nothing to bring up to date.
    """

    def __init__(self, sql: sqlite3.Connection) -> None:
        self._sql = sql
        meta = dict(sql.execute("SELECT key, value FROM meta WHERE key IN ('fingerprint', 'dimension')"))
        self._fingerprint = whole_number(meta.get("fingerprint"), 16)
        self._dimension = whole_number(meta.get("dimension"))

    def finish(self) -> None:
        """Write the fingerprint; the last thing before the transaction ends."""
        self.put("fingerprint", f"{self._fingerprint:064x}")

    def put(self, key: str, value: str) -> None:
        """Write a key of the store's own."""
        self._sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def dimension(self, first: int) -> int:
        """How many dimensions the store's vectors have; `first`, from now on, where there are none."""
        if not self._dimension:
            self._dimension = first
            self.put("dimension", str(first))
        return self._dimension

    def put_document(self, name: str, digest: bytes) -> None:
        """Note that a document is stored whole."""
        self._sql.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (name, digest))

    def drop_document(self, name: str) -> None:
        """Forget that a document is there; its chunks are another matter."""
        self._sql.execute("DELETE FROM documents WHERE name = ?", (name,))

    def insert(self, chunk: Chunk, vector: Vectors | None) -> None:
        """Add a chunk under an id that is free, with its vector of shape (dimension,) if it has one."""
        state = chunk.state()
        row = self._sql.execute(
            "INSERT INTO chunks (id, document, source, text, metadata, content, state)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (chunk.id, *_place(chunk), chunk.text, plain_json(chunk.metadata), chunk.content(), state),
        ).lastrowid
        if vector is not None:
            data = np.ascontiguousarray(vector, np.float32).tobytes()
            self._sql.execute("INSERT INTO vectors VALUES (?, ?, ?)", (row, data, zlib.crc32(data)))
        self._note(int(row or 0), chunk, state)

    def move(self, row: int, old: bytes, chunk: Chunk) -> None:
        """Change all of a chunk but its id and its text; `old` is the state that it had."""
        state = chunk.state()
        self._sql.execute(
            "UPDATE chunks SET document = ?, source = ?, metadata = ?, state = ? WHERE row = ?",
            (*_place(chunk), plain_json(chunk.metadata), state, row),
        )
        self._sql.execute("DELETE FROM fields WHERE row = ?", (row,))
        self._fingerprint ^= int.from_bytes(old)
        self._note(row, chunk, state)

    def delete(self, row: int, old: bytes) -> None:
        """Remove a chunk; `old` is the state that it had."""
        self._sql.execute("DELETE FROM chunks WHERE row = ?", (row,))
        self._sql.execute("DELETE FROM vectors WHERE row = ?", (row,))
        self._sql.execute("DELETE FROM fields WHERE row = ?", (row,))
        self._sql.execute("INSERT INTO graves (row) VALUES (?)", (row,))
        self._fingerprint ^= int.from_bytes(old)

    def _note(self, row: int, chunk: Chunk, state: bytes) -> None:
        fields = sorted(field_rows(json.loads(plain_json(chunk.metadata))), key=repr)
        self._sql.executemany(
            "INSERT INTO fields VALUES (?, ?, ?)", [(key, value, row) for key, value in fields]
        )
        self._fingerprint ^= int.from_bytes(state)


def whole_number(text: str | None, base: int = 10) -> int:
    """A number that a store wrote; 0 where it has written none."""
    try:
        return int(text or "0", base)
    except ValueError as error:
        raise sqlite3.DatabaseError(f"{text!r} is not what was written") from error


def _place(chunk: Chunk) -> tuple[str, str]:
    return chunk.document, chunk.source
