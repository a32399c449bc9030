"""Adding to a store: what is there already is neither embedded nor written again."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from json import loads

from rlm_agent.retrieval.chunks import Chunk, Pieces, plain_json
from rlm_agent.retrieval.store import Store
from rlm_agent.retrieval.writer import Vectors, Writer
from rlm_agent.structure.errors import IndexMismatchError

Embed = Callable[[Sequence[str]], Vectors]
"""Texts in, vectors of shape (n, dimension) and length 1 out."""


@dataclass(frozen=True, slots=True)
class Change:
    """How many chunks a call added, replaced, left alone and deleted, and how many texts it embedded."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    deleted: int = 0
    embedded: int = 0

    def __add__(self, other: "Change") -> "Change":
        return Change(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Change)))


def put(
    store: Store, embed: Embed | None, chunks: Iterable[Chunk], documents: Sequence[Pieces] = ()
) -> Change:
    """Add chunks, or replace those of the same ids, and documents with all of theirs, in one transaction.

    What a document had and no longer has is deleted. Texts are embedded before the transaction begins, so
    that nobody waits for the model; `embed` is None for an index without vectors. Raises `InputError` for
    metadata that are not plain JSON.
    """
    wanted = {
        chunk.id: replace(chunk, metadata=loads(plain_json(chunk.metadata)))
        for chunk in [*chunks, *(chunk for document in documents for chunk in document.chunks)]
    }
    vectors: dict[bytes, Vectors] = {}
    embedded = 0
    while True:
        embedded += _embed_missing(store, embed, wanted.values(), vectors)
        with store.writing() as writer:
            # Another process may have deleted a text since; then it is embedded after all.
            if embed is None or not _missing(store, wanted.values(), vectors):
                gone = [id for document in documents for id in store.ids_of(document.document)]
                change = _delete(store, writer, [id for id in gone if id not in wanted])
                change += _put(store, writer, wanted, vectors)
                for document in documents:
                    writer.put_document(document.document, document.digest)
                return change + Change(embedded=embedded)


def delete(store: Store, ids: Iterable[str], documents: Iterable[str] = ()) -> Change:
    """Delete chunks and whole documents, in one transaction; what is unknown is passed over."""
    with store.writing() as writer:
        names = list(documents)
        gone = [*ids, *(id for name in names for id in store.ids_of(name))]
        for name in names:
            writer.drop_document(name)
        return _delete(store, writer, gone)


def _embed_missing(
    store: Store, embed: Embed | None, chunks: Iterable[Chunk], vectors: dict[bytes, Vectors]
) -> int:
    if embed is None:
        return 0
    with store.reading():
        missing = _missing(store, chunks, vectors)
    if missing:
        vectors.update(zip(missing, embed(list(missing.values())), strict=True))
    return len(missing)


def _missing(store: Store, chunks: Iterable[Chunk], vectors: dict[bytes, Vectors]) -> dict[bytes, str]:
    """Texts by content that have no vector; what the store has of the others is put with `vectors`."""
    missing = {}
    for content, text in {chunk.content(): chunk.text for chunk in chunks}.items():
        if content not in vectors:
            held = store.vector_of(content)
            if held is None:
                missing[content] = text
            else:
                vectors[content] = held
    return missing


def _put(store: Store, writer: Writer, wanted: dict[str, Chunk], vectors: dict[bytes, Vectors]) -> Change:
    added = replaced = unchanged = 0
    for chunk in wanted.values():
        there = store.state_of(chunk.id)
        if there is None:
            writer.insert(chunk, _checked(writer, vectors.get(chunk.content())))
            added += 1
            continue
        row, content, state = there
        if state == chunk.state():
            unchanged += 1
            continue
        if content == chunk.content():
            writer.move(row, state, chunk)
        else:
            writer.delete(row, state)
            writer.insert(chunk, _checked(writer, vectors.get(chunk.content())))
        replaced += 1
    return Change(added=added, replaced=replaced, unchanged=unchanged)


def _delete(store: Store, writer: Writer, ids: Iterable[str]) -> Change:
    deleted = 0
    for id in dict.fromkeys(ids):
        there = store.state_of(id)
        if there is not None:
            writer.delete(there[0], there[2])
            deleted += 1
    return Change(deleted=deleted)


def _checked(writer: Writer, vector: Vectors | None) -> Vectors | None:
    """A vector that has the dimension of all others; the first one decides it."""
    if vector is not None:
        dimension = writer.dimension(len(vector))
        if dimension != len(vector):
            raise IndexMismatchError(
                f"the index holds vectors of {dimension} dimensions and this model gives {len(vector)}; "
                "use the embedding model that it was built with, or build the index again"
            )
    return vector
