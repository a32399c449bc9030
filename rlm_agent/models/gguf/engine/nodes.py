"""What the radix tree is made of: stretches of tokens, with their cells in the context or put aside."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.engine.jobs import Tokens


class Output(NamedTuple):
    """What the model computed after a prefix: logits [vocabulary], and the hidden state [width] if wanted."""

    logits: NDArray[np.float32]
    hidden: NDArray[np.float32] | None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.logits.nbytes + (0 if self.hidden is None else self.hidden.nbytes)


class Blob(NamedTuple):
    """The cells of positions `start` to before `end`, put aside in one part or several."""

    start: int
    end: int
    parts: Sequence[Any]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.parts))


class Piece(NamedTuple):
    """The positions from `start` to before `end`, to be taken from a blob, which may hold more."""

    start: int
    end: int
    blob: Blob


class Match(NamedTuple):
    """The known part of a prompt: `length` tokens in all.

    The first `held` of them are in the context, in `sequence` (-1 where none are); the others in `pieces`.
    """

    length: int
    held: int
    sequence: int
    pieces: list[Piece]


@dataclass(eq=False, slots=True)
class Node:
    """A stretch of tokens that ends at position `end`; `used` is when somebody last wanted it.

    `users` counts the sequences that hold it, those that go on from it too, and `live` the live ones among
    them. `aside` are its cells where they were put aside.
    """

    tokens: Tokens
    end: int
    parent: "Node | None"
    used: int = 0
    users: int = 0
    live: int = 0
    aside: Blob | None = None
    children: dict[int, "Node"] = field(default_factory=dict)
    sequences: set[int] = field(default_factory=set)

    @property
    def start(self) -> int:
        """The position of its first token."""
        return self.end - len(self.tokens)

    @property
    def piece(self) -> Piece:
        """Its cells, as they were put aside."""
        assert self.aside is not None
        return Piece(self.start, self.end, self.aside)

    def upwards(self) -> Iterator["Node"]:
        """Itself and all above it, but for the root."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent
