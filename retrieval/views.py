"""Indexes of vectors and words that follow the store: brought up to date, kept, made anew in time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlm_agent.retrieval.lexical import LexicalIndex, make_lexical, read_lexical
from rlm_agent.retrieval.snapshots import Snapshots
from rlm_agent.retrieval.store import Store
from rlm_agent.retrieval.vectors import (
    Mask,
    Rows,
    Sizes,
    VectorIndex,
    Vectors,
    make_index,
    read_index,
    sample_size,
    write_index,
)

Progress = Callable[[str, int, int], None]
"""Is told what is done, how much of it, and of how much."""

_BLOCK = 8192

# A snapshot that lacks a fifth of what there is now is written again; an index a fifth of which is gone is
# made anew.
_STALE = 0.2

# So many vectors are read from the store and compared in some hundredths of a second.
_FEW = 5000

# Cells that were made for a quarter of the vectors are made anew.
_GROWN = 4


def quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody wants to see."""


@dataclass(slots=True)
class _Followed:
    """An index, how far it follows the store, and what went since."""

    index: VectorIndex
    row: int
    grave: int
    saved: int
    dead: set[int] = field(default_factory=set)


class VectorView:
    """The index of vectors over a store."""

    def __init__(self, store: Store, snapshots: Snapshots, sizes: Sizes) -> None:
        self._store, self._snapshots, self._sizes = store, snapshots, sizes
        self._followed: _Followed | None = None

    def follow(self, dimension: int, progress: Progress = quiet) -> None:
        """Bring the index up to what the store holds now."""
        with self._store.reading():
            followed = self._followed or self._load(dimension)
            if followed is not None:
                self._bury(followed)
            if followed is None or self._outgrown(followed):
                followed = self._make(dimension, progress)
            self._append(followed, progress)
            self._followed = followed
        if followed.index.kind != "flat" and len(followed.index) > (1 + _STALE) * followed.saved:
            self._save(followed)

    def search(self, query: Vectors, k: int, keep: Rows | None) -> tuple[Rows, Vectors]:
        """Rows and cosines of the best `k` for a query of shape (dimension,), best first; after `follow`.

        Only rows in `keep` count, where it is given. Few of them are compared one by one, so that they are
        found for certain.
        """
        assert self._followed is not None
        index = self._followed.index
        if keep is not None and index.kind != "flat" and len(keep) <= _FEW:
            return _exact(self._store, query, keep, k)
        rows, scores = index.search(query, index.depth(k), self._allowed(self._followed, keep))
        return _exact(self._store, query, rows, k) if index.kind == "ivfpq" else _best(rows, scores, k)

    def _allowed(self, followed: _Followed, keep: Rows | None) -> Mask | None:
        if keep is None and not followed.dead:
            return None
        allowed = np.zeros(followed.row + 1, np.bool_)
        allowed[slice(None) if keep is None else keep[keep <= followed.row]] = True
        allowed[list(followed.dead)] = False
        return allowed

    def _load(self, dimension: int) -> _Followed | None:
        def read(path: Path, facts: dict[str, Any]) -> _Followed:
            index = read_index(str(path), str(facts["kind"]), dimension, self._sizes, int(facts["trained"]))
            return _Followed(index, int(facts["row"]), int(facts["grave"]), len(index), set(facts["dead"]))

        loaded = self._snapshots.load("vectors", read)
        return loaded and loaded[0]

    def _bury(self, followed: _Followed) -> None:
        gone = self._store.graves_after(followed.grave)
        followed.dead.update(row for row in gone if row <= followed.row)
        followed.grave += len(gone)

    def _outgrown(self, followed: _Followed) -> bool:
        """Whether another index serves better. One that has shrunk is kept up to half of its kind's limit."""
        index, count = followed.index, self._store.count()
        if len(followed.dead) > _STALE * len(index):
            return True
        if index.kind == "ivfpq" and count > _GROWN * index.trained:
            return True
        return index.kind not in (self._sizes.kind(count), self._sizes.kind(2 * count))

    def _make(self, dimension: int, progress: Progress) -> _Followed:
        rows = self._store.vector_rows()
        kind = self._sizes.kind(len(rows))
        sample: Iterator[Vectors] = iter(())
        if kind == "ivfpq":
            chosen = np.random.default_rng(0).choice(rows, sample_size(len(rows)), replace=False)
            progress("training the index", 0, len(rows))
            sample = self._blocks(np.sort(chosen))
        index = make_index(kind, dimension, self._sizes, len(rows), sample)
        return _Followed(index, 0, self._store.latest()[1], 0)

    def _blocks(self, rows: Rows) -> Iterator[Vectors]:
        for start in range(0, len(rows), _BLOCK):
            yield np.stack(list(self._store.vectors(rows[start : start + _BLOCK].tolist()).values()))

    def _append(self, followed: _Followed, progress: Progress) -> None:
        total = self._store.count()
        while True:
            rows, vectors = self._store.vectors_after(followed.row, _BLOCK)
            if not len(rows):
                return
            followed.index.add(rows, vectors)
            followed.row = int(rows[-1])
            progress("indexing vectors", len(followed.index), total)

    def _save(self, followed: _Followed) -> None:
        facts = {
            "kind": followed.index.kind,
            "row": followed.row,
            "grave": followed.grave,
            "trained": followed.index.trained,
            "dead": sorted(followed.dead),
        }
        self._snapshots.save("vectors", lambda path: write_index(followed.index, str(path)), facts)
        followed.saved = len(followed.index)


class LexicalView:
    """The index of words over a store; made anew when the texts have changed."""

    def __init__(self, store: Store, snapshots: Snapshots) -> None:
        self._store, self._snapshots = store, snapshots
        self._index: LexicalIndex | None = None
        self._at: list[int] = []

    def follow(self, progress: Progress = quiet) -> None:
        """Bring the index up to what the store holds now."""
        with self._store.reading():
            at = list(self._store.latest())
            if self._index is None:
                self._load()
            if self._index is not None and self._at == at:
                return
            progress("indexing words", 0, self._store.count())
            self._index, self._at = make_lexical(self._store.texts()), at
        self._snapshots.save("lexical", self._index.write, {"at": at})

    def search(self, query: str, k: int, keep: Rows | None) -> tuple[Rows, Vectors]:
        """Rows and scores of the best `k`; after `follow`."""
        assert self._index is not None
        return self._index.search(query, k, keep)

    def _load(self) -> None:
        loaded = self._snapshots.load("lexical", lambda path, facts: (read_lexical(path), list(facts["at"])))
        if loaded:
            self._index, self._at = loaded[0]


def _exact(store: Store, query: Vectors, rows: Rows, k: int) -> tuple[Rows, Vectors]:
    """Rows and cosines of the best `k` of `rows`, by their vectors in the store."""
    held = store.vectors(rows.tolist())
    if not held:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    return _best(np.array(list(held), np.int64), np.stack(list(held.values())) @ query, k)


def _best(rows: Rows, scores: Vectors, k: int) -> tuple[Rows, Vectors]:
    """The `k` of the highest scores, best first; of equal scores the lower row comes first."""
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]
