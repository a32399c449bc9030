"""Nearest vectors by FAISS: flat, HNSW or IVF-PQ, by how many there are.

    flat     every vector is compared: exact
    hnsw     a graph of neighbours (Malkov and Yashunin, arXiv 1603.09320); vectors in full beside it
    ivfpq    an inverted file of product-quantised vectors (Jégou et al., TPAMI 2011), a byte for every four
             dimensions; what it finds is ranked again by the exact vectors, which the document store keeps

All vectors have length 1 and are compared by inner product. Queries are asked one by one: FAISS computes a
batch in another order of sums, so that the same query could find other neighbours beside others.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlm_agent.retrieval.extras import needed

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]
Mask = NDArray[np.bool_]

# A byte takes so many values, and that many vectors are needed to train what they stand for.
_CODES = 256


@dataclass(frozen=True, slots=True)
class Sizes:
    """Which kind of index serves how many vectors, and how hard it looks.

    At the first limit a graph answers ten times faster than a comparison of all and hardly ever misses one
    (docs/retrieval.md); at the second it takes half a gigabyte, for vectors of 384 dimensions.
    """

    flat: int = 50_000
    """Up to so many vectors all of them are compared."""

    hnsw: int = 250_000
    """Up to so many there is a graph, which holds them in full; above, they are quantised."""

    links: int = 32
    """Neighbours of a vector in the graph (M)."""

    effort: int = 128
    """How many candidates a search of the graph keeps (efSearch), and at least the k that is asked for."""

    probes: int = 32
    """How many cells of the inverted file are looked into (nprobe)."""

    rerank: int = 20
    """How many times k candidates of the quantised index are ranked again by exact vectors."""

    def kind(self, count: int) -> str:
        """The kind of index for so many vectors."""
        if count <= self.flat:
            return "flat"
        return "hnsw" if count <= max(self.hnsw, _CODES) else "ivfpq"


def cells(count: int) -> int:
    """How many cells an inverted file of so many vectors has: about 4√n, a power of two.

    FAISS advises 4√n to 16√n for up to a million; the lower end is trained in a fraction of the time.
    """
    return int(2 ** round(math.log2(4 * math.sqrt(max(count, 1)))))


class VectorIndex:
    """An index of FAISS over rows of the store; rows can be added, and left out, but not removed."""

    def __init__(self, kind: str, index: Any, sizes: Sizes, trained: int) -> None:
        """`index` is FAISS's, `trained` how many vectors there were when its cells were made."""
        self.kind, self.index, self.trained = kind, index, trained
        self._sizes = sizes

    @property
    def dimension(self) -> int:
        """Of its vectors."""
        return int(self.index.d)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def add(self, rows: Rows, vectors: Vectors) -> None:
        """Add vectors of shape (n, dimension) under their rows."""
        # With several threads a graph would depend on which of them comes first.
        with _one_thread() if self.kind == "hnsw" else nullcontext():
            self.index.add_with_ids(np.ascontiguousarray(vectors), rows)

    def depth(self, k: int) -> int:
        """How many candidates have to be asked for, so that the best k are among them."""
        return max(k * self._sizes.rerank, 100) if self.kind == "ivfpq" else k

    def search(self, query: Vectors, depth: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """Rows and scores of the best `depth` candidates for a query of shape (dimension,).

        `allowed` says row by row whether it may be found. Scores of a quantised index are estimates.
        """
        depth = min(depth, len(self))
        share = 1.0 if allowed is None else allowed.sum() / max(len(self), 1)
        if not depth or not share:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        given: dict[str, Any] = {}
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            given["sel"] = needed("faiss").IDSelectorBitmap(bits)
        parameters = self._parameters(given, depth, share)
        with _one_thread():  # the threads of so short a search would mostly wait for each other
            scores, rows = self.index.search(query[None], depth, params=parameters)
        found = rows[0] >= 0
        return rows[0][found], scores[0][found]

    def _parameters(self, given: dict[str, Any], depth: int, share: float) -> Any:
        """Where only a share may be found, as much more is looked at, so that a filter costs no recall."""
        faiss = needed("faiss")
        if self.kind == "hnsw":
            effort = max(self._sizes.effort, 2 * depth)
            return faiss.SearchParametersHNSW(efSearch=min(int(effort / share), len(self)), **given)
        if self.kind == "ivfpq":
            probes = min(int(self._sizes.probes / share), int(self.index.nlist))
            return faiss.SearchParametersIVF(nprobe=probes, **given)
        return faiss.SearchParameters(**given)


def make_index(
    kind: str, dimension: int, sizes: Sizes, count: int, sample: Iterable[Vectors] = ()
) -> VectorIndex:
    """An empty index for about `count` vectors; an inverted file is trained on the blocks of `sample`."""
    faiss = needed("faiss")
    metric = faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        return VectorIndex(kind, faiss.IndexIDMap2(faiss.IndexFlatIP(dimension)), sizes, count)
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(dimension, sizes.links, metric)
        graph.hnsw.efConstruction = 80
        return VectorIndex(kind, faiss.IndexIDMap2(graph), sizes, count)
    coarse = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFPQ(coarse, dimension, cells(count), _pieces(dimension), 8, metric)
    _train(faiss, index, np.concatenate(list(sample)))
    return VectorIndex(kind, index, sizes, count)


def _train(faiss: Any, index: Any, vectors: Vectors) -> None:
    """Make the cells and the codes of an inverted file; a few rounds come close to what many would."""
    clustering = faiss.Clustering(index.d, index.nlist)
    clustering.niter, clustering.spherical = 8, True
    index.pq.cp.niter, index.pq.cp.max_points_per_centroid = 8, 64
    # Users may set low limits, for which FAISS would warn on standard error.
    clustering.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    clustering.train(vectors, index.quantizer)
    with _one_thread():  # codes are made of so small pieces that more threads mostly wait for each other
        index.train(vectors)


def sample_size(count: int) -> int:
    """How many vectors an inverted file is trained on: 40 a cell, and 64 a code."""
    return min(count, max(40 * cells(count), 64 * _CODES))


def write_index(index: VectorIndex, path: str) -> None:
    """Write an index to a file."""
    needed("faiss").write_index(index.index, path)


def read_index(path: str, kind: str, dimension: int, sizes: Sizes, trained: int) -> VectorIndex:
    """Read an index of a kind and dimension; `ValueError` where the file holds something else."""
    faiss = needed("faiss")
    try:
        index = faiss.read_index(path)
    except RuntimeError as error:
        raise ValueError(f"FAISS cannot read {path}") from error
    inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap) else index
    wanted = faiss.IndexHNSWFlat if kind == "hnsw" else faiss.IndexIVFPQ
    if not isinstance(inner, wanted) or index.d != dimension or not index.is_trained:
        raise ValueError(f"{path} is no {kind} index of {dimension} dimensions")
    return VectorIndex(kind, index, sizes, trained)


def _pieces(dimension: int) -> int:
    """Into how many pieces a vector is cut, each of which becomes a byte: of four dimensions or more."""
    return next(dimension // size for size in range(4, dimension + 1) if dimension % size == 0)


@contextmanager
def _one_thread() -> Iterator[None]:
    """FAISS on one thread; OpenMP's number of threads is the calling thread's own."""
    faiss = needed("faiss")
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
