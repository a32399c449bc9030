"""What an index holds: chunks of documents, with identities that follow from what they say."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm_agent.structure.errors import InputError


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of text to be found.

    `document` is the name of the document it was cut from, or empty for a text that stands alone; `source`
    is what a citation says; `metadata` is plain JSON.
    """

    id: str
    text: str
    source: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    document: str = ""

    def content(self) -> bytes:
        """SHA-256 of the text: chunks of one content share an embedding."""
        return _digest(self.text)

    def state(self) -> bytes:
        """SHA-256 of all that the chunk holds; what has not changed is not written again."""
        return _digest(self.id, self.document, self.source, self.text, plain_json(self.metadata))


@dataclass(frozen=True, slots=True)
class Pieces:
    """A document cut into chunks; `digest` says whether it has to be cut and stored again."""

    document: str
    digest: bytes
    chunks: Sequence[Chunk]


def chunk_id(text: str, *place: str) -> str:
    """An identity of 32 hexadecimal digits that a text at a place always gets."""
    return _digest(*place, text).hex()[:32]


def plain_json(metadata: Mapping[str, Any]) -> str:
    """Metadata as JSON; the same metadata, the same text. Raises `InputError` where it is not plain JSON."""
    try:
        return json.dumps(metadata, sort_keys=True, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"metadata has to be plain JSON ({error}); leave out what is not") from error


def _digest(*parts: str) -> bytes:
    """SHA-256 of texts; each is preceded by its length, so that no two lists look alike."""
    digest = hashlib.sha256()
    for part in parts:
        try:
            data = part.encode()
        except UnicodeEncodeError as error:
            raise InputError("a text holds half of a surrogate pair; decode it as UTF-8 first") from error
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()
