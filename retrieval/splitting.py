"""Documents cut into chunks, by langchain-text-splitters."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from rlm_agent.retrieval.chunks import Chunk, Pieces, chunk_id
from rlm_agent.retrieval.extras import needed
from rlm_agent.retrieval.parts import Part, read_parts
from rlm_agent.structure.errors import InputError

# Changes when documents are read or cut in another way: then all of them are read again.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Cutting:
    """How documents are read and cut: the longest chunk, and what follows shares with it, in characters."""

    size: int = 1000
    overlap: int = 100
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.size:
            raise InputError(
                f"chunks of {self.size} characters cannot overlap by {self.overlap}; "
                "use an overlap from 0 to less than the size"
            )
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise InputError(f"there is no encoding {self.encoding!r}; name one such as latin-1") from error


def digest(data: bytes, cutting: Cutting) -> bytes:
    """SHA-256 of a document's bytes and of how they are cut."""
    return hashlib.sha256(repr((_VERSION, cutting)).encode() + b"\0" + data).digest()


def cut(name: str, data: bytes, suffix: str, cutting: Cutting) -> Pieces:
    """A document as chunks; metadata are those of its parts, and `document`, its name.

    A chunk's id follows from its text and the document's name, so that it keeps it wherever it moves to
    within the document. Raises `DocumentError`, as `read_parts` does.
    """
    splitter = needed("langchain_text_splitters").RecursiveCharacterTextSplitter(
        chunk_size=cutting.size, chunk_overlap=cutting.overlap, add_start_index=True
    )
    seen: Counter[str] = Counter()
    chunks = []
    for part in read_parts(data, suffix, cutting.encoding):
        for piece in splitter.create_documents([part.text]):
            text = piece.page_content
            place, metadata = _place(part, piece.metadata["start_index"])
            id = chunk_id(text, name, str(seen[text]))
            seen[text] += 1
            source = f"{name}, {place}" if place else name
            chunks.append(Chunk(id, text, source, {**metadata, "document": name}, name))
    return Pieces(name, digest(data, cutting), chunks)


def _place(part: Part, start: int) -> tuple[str, dict[str, Any]]:
    """Where a piece stands; within a text without headings, pages or rows, that is a line."""
    if part.place or start < 0:
        return part.place, dict(part.metadata)
    line = part.text.count("\n", 0, start) + 1
    return f"line {line}", {**part.metadata, "line": line}
