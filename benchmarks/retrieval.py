"""The index of documents at size: recall, latency, build time, memory, and what an add costs.

    python benchmarks/retrieval.py [VECTORS ...]    # 50,000, 200,000 and 1,000,000 by default

Vectors are synthetic, of 384 dimensions, in clusters of a thousand: a random direction and, in every
direction, noise of 0.7 of its length, which is harder for a quantised index than embeddings of text are.
Queries are 1,000 further points of the same clusters, asked one at a time for ten passages; latency is that
of `DocumentIndex.search`, passages included, without an embedding model. Each phase runs in a process of its
own, whose peak memory is reported. Then 1,000 documents are added to 100,000, with an embedding model that
counts.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from rlm_agent.retrieval.chunks import Chunk
from rlm_agent.retrieval.index import DocumentIndex

DIMENSION, CLUSTER, NOISE = 384, 1000, 0.7
QUERIES, K = 1000, 10
BLOCK = 20_000


class Synthetic(Embeddings):
    """Vectors by number: the text "17" has the 17th vector, "q17" is the 17th query."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.embedded = 0

    def embed_documents(self, texts: list[str]) -> Any:
        """The vectors of texts whose numbers follow each other; read, not mapped, to keep memory telling."""
        self.embedded += len(texts)
        start = int(texts[0]) * DIMENSION * 4
        flat = np.fromfile(self._folder / "vectors", np.float32, len(texts) * DIMENSION, offset=start)
        return flat.reshape(-1, DIMENSION)

    def embed_query(self, text: str) -> Any:
        """The vector of a query."""
        return np.load(self._folder / "queries.npy", mmap_mode="r")[int(text[1:])]


def make_vectors(folder: Path, count: int) -> dict[str, Any]:
    """Write vectors, queries, and the ten nearest of each query by comparing all."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((max(count // CLUSTER, 1), DIMENSION), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)

    def draw(number: int) -> Any:
        noise = random.standard_normal((number, DIMENSION), np.float32) * (NOISE / DIMENSION**0.5)
        drawn = centres[random.integers(len(centres), size=number)] + noise
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    queries = draw(QUERIES)
    vectors = np.memmap(folder / "vectors", np.float32, "w+", shape=(count, DIMENSION))
    scores, nearest = np.zeros((QUERIES, 0), np.float32), np.zeros((QUERIES, 0), np.int64)
    for start in range(0, count, BLOCK):
        block = vectors[start : start + BLOCK] = draw(min(BLOCK, count - start))
        scores = np.hstack([scores, queries @ block.T])
        nearest = np.hstack([nearest, np.broadcast_to(start + np.arange(len(block)), (QUERIES, len(block)))])
        best = np.argsort(-scores, axis=1)[:, :K]
        scores, nearest = np.take_along_axis(scores, best, 1), np.take_along_axis(nearest, best, 1)
    vectors.flush()
    np.save(folder / "queries.npy", queries)
    np.save(folder / "nearest.npy", nearest)
    return {}


def chunks(start: int, stop: int) -> list[Chunk]:
    """Chunks whose texts are numbers."""
    return [Chunk(str(number), str(number), f"document {number}") for number in range(start, stop)]


def build(folder: Path, count: int) -> dict[str, Any]:
    """Write all chunks, and build the index over their vectors."""
    began = time.perf_counter()
    with DocumentIndex(folder / "index", Synthetic(folder), mode="vector", batch_size=BLOCK) as index:
        for start in range(0, count, BLOCK):
            index.put(chunks(start, min(start + BLOCK, count)))
        written = time.perf_counter()
        index.settle()
        built = time.perf_counter()
    disk = sum(path.stat().st_size for path in (folder / "index").iterdir())
    return {"write s": written - began, "index s": built - written, "build MB": peak(), "disk MB": disk / 1e6}


def search(folder: Path, count: int) -> dict[str, Any]:
    """Open the index and ask all queries."""
    began = time.perf_counter()
    with DocumentIndex(folder / "index", Synthetic(folder), mode="vector") as index:
        index.settle()
        opened = time.perf_counter()
        nearest, seconds, hits = np.load(folder / "nearest.npy"), [], 0
        for number in range(QUERIES):
            asked = time.perf_counter()
            (found,) = index.search([f"q{number}"], K)
            seconds.append(time.perf_counter() - asked)
            hits += len({int(passage.id) for passage in found} & set(nearest[number].tolist()))
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return {
        "open s": opened - began,
        "p50 ms": p50,
        "p95 ms": p95,
        "recall@10": hits / (K * QUERIES),
        "search MB": peak(),
    }


def add(folder: Path, count: int) -> dict[str, Any]:
    """Add 1,000 chunks to all but the last 1,000."""
    embeddings = Synthetic(folder)
    with DocumentIndex(folder / "added", embeddings, mode="vector", batch_size=BLOCK) as index:
        for start in range(0, count - 1000, BLOCK):
            index.put(chunks(start, min(start + BLOCK, count - 1000)))
        index.settle()
        embeddings.embedded, began = 0, time.perf_counter()
        change = index.put(chunks(count - 1000, count))
        added = time.perf_counter()
        index.search(["q0"], K)
        searched = time.perf_counter()
    return {
        "added": change.added,
        "embedded": embeddings.embedded,
        "add s": added - began,
        "next search s": searched - added,
    }


def peak() -> float:
    """The most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def alone(phase: Callable[[Path, int], dict[str, Any]], folder: Path, count: int) -> dict[str, Any]:
    """Run a phase in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(phase, folder, count).result()


def report(count: int, figures: dict[str, Any]) -> None:
    """Print what was measured."""
    print(f"{count:,}", *(f"{name} {value:,.3f}" for name, value in figures.items()), sep="  ", flush=True)


def main(sizes: Sequence[int]) -> None:
    """Print a line for each size, and one for the add."""
    for count in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            alone(make_vectors, folder, count)
            report(count, alone(build, folder, count) | alone(search, folder, count))
    with tempfile.TemporaryDirectory() as name:
        alone(make_vectors, Path(name), 101_000)
        report(100_000, alone(add, Path(name), 101_000))


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [50_000, 200_000, 1_000_000])
