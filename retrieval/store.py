"""The document store: one SQLite file that holds chunks, vectors and metadata, and is the truth of an index.

A row of `chunks` never changes its text or its vector: a chunk whose text changes gets a new row. So whatever
is derived from rows, such as an index of vectors, is brought up to date by the rows that came after its last
and by `graves`, the log of those that went. Rows and graves are numbered upwards and no number comes twice.
"""

import json
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlm_agent.retrieval.chunks import Chunk
from rlm_agent.retrieval.filters import Filter, conditions
from rlm_agent.retrieval.schema import connect, damaged
from rlm_agent.retrieval.writer import Vectors, Writer, whole_number

Rows = NDArray[np.int64]

_FIELDS = "row, id, text, source, metadata, document, state"


class Store:
    """Chunks by id, row, document and content.

    Threads take turns: who reads or writes holds the `lock` meanwhile. `path` is the SQLite file, or None for
    a store in memory. Raises `IndexFileError` where the file is damaged, foreign or of another version.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._sql = connect(path)

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        with self.lock:
            self._sql.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything within sees one state of the store, and damage is `IndexFileError`."""
        with self.lock, damaged(self.path):
            self._sql.execute("BEGIN")
            try:
                yield
            finally:
                self._sql.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Everything within is written at once and for good when it ends, or not at all where it raises."""
        with self.lock, damaged(self.path):
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                writer = Writer(self._sql)
                yield writer
                writer.finish()
            except BaseException:
                self._sql.execute("ROLLBACK")
                raise
            self._sql.execute("COMMIT")

    # What is known of the store as a whole.

    def get(self, key: str) -> str | None:
        """What stands under a key of the store's own, such as the embedding model."""
        found = self._sql.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    def dimension(self) -> int:
        """How many dimensions vectors have; 0 where there are none."""
        return whole_number(self.get("dimension"))

    def latest(self) -> tuple[int, int]:
        """The numbers of the last row and of the last grave there ever were."""
        found = dict(self._sql.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        return int(found.get("chunks", 0)), int(found.get("graves", 0))

    def count(self) -> int:
        """How many chunks there are."""
        row, grave = self.latest()
        return row - grave  # every row is filled, and every one that went has a grave

    # Documents.

    def documents(self) -> dict[str, bytes]:
        """Digests by the names of documents."""
        return dict(self._sql.execute("SELECT name, digest FROM documents ORDER BY name").fetchall())

    def sizes(self) -> dict[str, int]:
        """How many chunks each document has, by name."""
        query = (
            "SELECT document, count(*) FROM chunks WHERE document != '' GROUP BY document ORDER BY document"
        )
        return dict(self._sql.execute(query).fetchall())

    def ids_of(self, document: str) -> list[str]:
        """The ids of a document's chunks, in the order in which they were stored."""
        query = "SELECT id FROM chunks WHERE document = ? ORDER BY row"
        return [str(found[0]) for found in self._sql.execute(query, (document,))]

    # Chunks.

    def state_of(self, id: str) -> tuple[int, bytes, bytes] | None:
        """Row, content and state of a chunk; None where there is none of this id."""
        query = "SELECT row, content, state FROM chunks WHERE id = ?"
        found: tuple[int, bytes, bytes] | None = self._sql.execute(query, (id,)).fetchone()
        return found

    def chunks(self, rows: Sequence[int]) -> dict[int, Chunk]:
        """Chunks by row; rows that are gone are left out. Raises `IndexFileError` for a damaged one."""
        query = f"SELECT {_FIELDS} FROM chunks WHERE row IN (SELECT value FROM json_each(?))"
        return {int(found[0]): _chunk(found) for found in self._sql.execute(query, (json.dumps(rows),))}

    def by_ids(self, ids: Sequence[str]) -> dict[str, Chunk]:
        """Chunks by id; ids that are unknown are left out."""
        found = {id: self.state_of(id) for id in ids}
        chunks = self.chunks([state[0] for state in found.values() if state])
        return {chunk.id: chunk for chunk in chunks.values()}

    def all_ids(self) -> list[str]:
        """The ids of all chunks, in the order in which they were stored."""
        return [str(found[0]) for found in self._sql.execute("SELECT id FROM chunks ORDER BY row")]

    def texts(self) -> Iterator[tuple[int, str]]:
        """Rows and texts of all chunks, by row."""
        yield from self._sql.execute("SELECT row, text FROM chunks ORDER BY row")

    def matching(self, wanted: Filter) -> Rows:
        """The rows whose metadata pass a filter, in order."""
        found: set[int] | None = None
        for alternatives in conditions(wanted):
            rows = {int(row) for query, values in alternatives for (row,) in self._sql.execute(query, values)}
            found = rows if found is None else found & rows
        if found is None:
            return np.array([row for (row,) in self._sql.execute("SELECT row FROM chunks")], np.int64)
        return np.array(sorted(found), np.int64)

    # Vectors.

    def vector_of(self, content: bytes) -> Vectors | None:
        """The vector of a text that has been embedded, shape (dimension,); None for any other."""
        query = "SELECT row, vector, crc FROM chunks JOIN vectors USING (row) WHERE content = ? LIMIT 1"
        found = self._sql.execute(query, (content,)).fetchone()
        return found and _vector(*found)

    def vectors(self, rows: Sequence[int]) -> dict[int, Vectors]:
        """Vectors by row; rows that are gone are left out. Raises `IndexFileError` for a damaged one."""
        query = "SELECT row, vector, crc FROM vectors WHERE row IN (SELECT value FROM json_each(?))"
        return {found[0]: _vector(*found) for found in self._sql.execute(query, (json.dumps(rows),))}

    def vectors_after(self, row: int, at_most: int) -> tuple[Rows, Vectors]:
        """Rows after `row` with vectors, in order, and their vectors; shapes (n,) and (n, dimension)."""
        query = "SELECT row, vector, crc FROM vectors WHERE row > ? ORDER BY row LIMIT ?"
        found = self._sql.execute(query, (row, at_most)).fetchall()
        vectors = [_vector(*one) for one in found]
        rows = np.array([one[0] for one in found], np.int64)
        return rows, np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)

    def vector_rows(self) -> Rows:
        """The rows that have vectors, in order."""
        return np.array(
            [row for (row,) in self._sql.execute("SELECT row FROM vectors ORDER BY row")], np.int64
        )

    def graves_after(self, number: int) -> list[int]:
        """The rows that went after a grave."""
        query = "SELECT row FROM graves WHERE number > ? ORDER BY number"
        return [int(row) for (row,) in self._sql.execute(query, (number,))]


def _chunk(found: tuple[int, str, str, str, str, str, bytes]) -> Chunk:
    row, id, text, source, metadata, document, state = found
    try:
        chunk = Chunk(id, text, source, json.loads(metadata), document)
    except ValueError:
        chunk = None
    if chunk is None or chunk.state() != state:
        raise sqlite3.DatabaseError(f"row {row} does not hold what was written")
    return chunk


def _vector(row: int, data: bytes, crc: int) -> Vectors:
    if zlib.crc32(data) != crc:
        raise sqlite3.DatabaseError(f"the vector of row {row} does not hold what was written")
    return np.frombuffer(data, np.float32)
