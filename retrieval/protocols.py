"""What retrieval looks like from outside: queries in, passages out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that a query found."""

    id: str
    """Of the chunk; the same text at the same place of the same document keeps it."""

    text: str

    source: str
    """Where it stands, for a citation: the document's name and the place in it."""

    score: float
    """Higher is better; comparable within one answer only."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON."""


@runtime_checkable
class Retriever(Protocol):
    """Finds passages; nothing of how is seen from here."""

    @property
    def identity(self) -> str:
        """What decides its answers: stored with a run, so that no run goes on with another."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """For each query at most `k` passages, best first."""

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """As `search`, without blocking the event loop."""
