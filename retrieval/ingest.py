"""Files and folders into an index: only what has changed is read, cut and embedded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlm_agent.retrieval.adding import Change
from rlm_agent.retrieval.chunks import Pieces
from rlm_agent.retrieval.finding import Found, Problem, find_documents, read_bounded
from rlm_agent.retrieval.index import DocumentIndex
from rlm_agent.retrieval.splitting import Cutting, cut, digest
from rlm_agent.structure.errors import DocumentError

LARGEST = 64 * 1024 * 1024

# Documents are written together until they have so many chunks: what a stop in between costs is one such
# batch.
_BATCH = 256


@dataclass(slots=True)
class Report:
    """What an ingest did: documents written, left as they were and deleted, chunks, and what went wrong."""

    documents: int = 0
    unchanged: int = 0
    deleted: int = 0
    change: Change = field(default_factory=Change)
    problems: list[Problem] = field(default_factory=list)


def ingest(
    index: DocumentIndex,
    paths: Sequence[str | Path],
    *,
    cutting: Cutting | None = None,
    largest: int = LARGEST,
    mirror: bool = False,
) -> Report:
    """Add the documents under `paths`, or replace what has changed of them.

    Broken off at any moment, the next call goes on. With `mirror`, documents of the index that are not under
    `paths` are deleted, unless a folder could not be read. Documents that cannot be read are problems in the
    report; what the index holds of them stays. `largest` is in bytes.
    """
    found, problems = find_documents(paths)
    report = Report(problems=list(problems))
    cutting = cutting or Cutting()
    with index.store.reading():
        known = index.store.documents()
    if mirror and not problems:
        gone = sorted(known.keys() - {one.name for one in found})
        report.change += index.delete(documents=gone)
        report.deleted = len(gone)
    for batch in _batches(_changed(found, known, cutting, largest, report, index)):
        report.change += index.put_documents(batch)
        report.documents += len(batch)
    index.settle()
    return report


def _changed(
    found: Sequence[Found],
    known: dict[str, bytes],
    cutting: Cutting,
    largest: int,
    report: Report,
    index: DocumentIndex,
) -> Iterator[Pieces]:
    for number, one in enumerate(found, 1):
        try:
            data = read_bounded(one.path, largest)
            if known.get(one.name) == digest(data, cutting):
                report.unchanged += 1
            else:
                yield cut(one.name, data, one.path.suffix.lower(), cutting)
        except DocumentError as error:
            report.problems.append(Problem(one.name, str(error)))
        index.progress("documents", number, len(found))


def _batches(documents: Iterator[Pieces]) -> Iterator[list[Pieces]]:
    batch: list[Pieces] = []
    for document in documents:
        batch.append(document)
        if sum(len(one.chunks) for one in batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
