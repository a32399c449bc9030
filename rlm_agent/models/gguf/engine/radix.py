"""A radix tree over token ids: which sequences of the context hold which prefixes.

A sequence is live while a request works with it, idle afterwards. Idle ones stand at leaves only: what a
longer sequence holds needs no sequence of its own. Plain bookkeeping; the context does what is told here.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.engine.jobs import Tokens


class Output(NamedTuple):
    """What the model computed after a prefix: logits [vocabulary], and the hidden state [width] if wanted."""

    logits: NDArray[np.float32]
    hidden: NDArray[np.float32] | None


class Segment(NamedTuple):
    """The positions from `start` to before `end` of a path, and all the sequences that share them."""

    start: int
    end: int
    sequences: list[int]


@dataclass(eq=False, slots=True)
class Node:
    """A stretch of tokens that ends at position `end`; `used` is when somebody last wanted it."""

    tokens: Tokens
    end: int
    parent: "Node | None"
    used: int = 0
    children: dict[int, "Node"] = field(default_factory=dict)
    sequences: set[int] = field(default_factory=set)

    @property
    def start(self) -> int:
        """The position of its first token."""
        return self.end - len(self.tokens)


class RadixTree:
    """All prefixes in the context, under a root for each adapter.

    `memory` bounds the bytes of the outputs that are kept.
    """

    def __init__(self, memory: int = 32_000_000) -> None:
        self._roots: dict[str | None, Node] = {}
        self._ends: dict[int, Node] = {}
        self._idle: set[int] = set()
        self._outputs: OrderedDict[Node, Output] = OrderedDict()
        self._memory = memory
        self._kept = 0
        self.size = 0
        """How many cells all prefixes need together."""

    def match(self, tokens: Tokens, adapter: str | None, now: int) -> tuple[int, int]:
        """How many of `tokens` are known, and a sequence that holds them (-1 where none is)."""
        node, length = self._descend(tokens, adapter)
        if length == 0:
            return 0, -1
        above: Node | None = node
        while above is not None:
            above.used = now
            above = above.parent
        return length, self._below(node)

    def output(self, tokens: Tokens, adapter: str | None) -> Output | None:
        """What was computed after exactly these tokens, where it is still kept."""
        node, length = self._descend(tokens, adapter)
        if length < len(tokens) or node.end != length or node not in self._outputs:
            return None
        self._outputs.move_to_end(node)
        return self._outputs[node]

    def remember(self, sequence: int, output: Output) -> None:
        """Keep what was computed after the last token of a sequence."""
        self._forget_output(node := self._ends[sequence])
        self._outputs[node] = output
        self._kept += _bytes(output)
        while self._kept > self._memory:
            self._forget_output(next(iter(self._outputs)))

    def place(self, sequence: int, tokens: Tokens, adapter: str | None, now: int) -> list[int]:
        """Note that a live sequence holds `tokens`; returns the idle ones that it makes superfluous."""
        node, length = self._descend(tokens, adapter)
        if node.end > length:
            node = self._split(node, length - node.start)
        if length < len(tokens):
            child = Node(tokens[length:], len(tokens), node)
            node.children[tokens[length]] = child
            self.size += len(child.tokens)
            node = child
        before = self._ends.get(sequence)
        self._ends[sequence] = node
        node.sequences.add(sequence)
        if before is not None and before is not node:
            before.sequences.discard(sequence)
            self._prune(before)
        node.used = now
        return self._superfluous(node)

    def settle(self, sequence: int) -> bool:
        """A live sequence becomes idle; False where it is superfluous and was taken out instead."""
        node = self._ends[sequence]
        if node.children or len(node.sequences) > 1 or node.parent is None:
            self.remove(sequence)
            return False
        self._idle.add(sequence)
        return True

    def remove(self, sequence: int) -> None:
        """Take a sequence out, and with it what it alone held."""
        node = self._ends.pop(sequence)
        self._idle.discard(sequence)
        node.sequences.discard(sequence)
        self._prune(node)

    def oldest(self) -> tuple[int, int] | None:
        """The idle sequence that nobody has wanted for longest, and when it was wanted last."""
        if not self._idle:
            return None
        sequence = min(self._idle, key=lambda idle: (self._ends[idle].used, idle))
        return sequence, self._ends[sequence].used

    def idle_below(self, tokens: Tokens, keep: int, adapter: str | None) -> list[int]:
        """The idle sequences that go on from `tokens`, or that end up to two tokens before, beyond `keep`.

        What ended a generation was never fed, nor was a delimiter that it did not come to.
        """
        node, length = self._descend(tokens, adapter)
        ended = length == node.end and not node.children and length >= len(tokens) - 2
        if length <= keep or not (ended or length == len(tokens)):
            return []
        nodes, found = [node], list[int]()
        for node in nodes:  # grows while it is gone through
            nodes += node.children.values()
            found += [sequence for sequence in node.sequences if sequence in self._idle]
        return found

    def shorten(self, sequence: int, keep: int = 0) -> int:
        """Cut an idle sequence back to its last branching, or to `keep` tokens; how many it still has.

        None left, or none that another sequence does not hold, means that it was taken out: 0.
        """
        node = self._ends[sequence]
        above = node.parent
        if above is None:
            return 0
        if keep > above.end:
            self._split(node, keep - above.end)
            return self.shorten(sequence)
        alone = above.parent is not None and len(above.children) == 1 and not above.sequences
        if not alone:
            self.remove(sequence)
            return 0
        self._ends[sequence] = above
        above.sequences.add(sequence)
        node.sequences.discard(sequence)
        self._prune(node)
        return above.end

    def segments(self) -> Iterator[Segment]:
        """All stretches, each after those it continues."""
        nodes = list(self._roots.values())
        for node in nodes:  # grows while it is gone through: parents come first
            nodes += node.children.values()
        through: dict[Node, list[int]] = {}
        for node in reversed(nodes):
            below = (sequence for child in node.children.values() for sequence in through[child])
            through[node] = [*node.sequences, *below]
        return (Segment(node.start, node.end, through[node]) for node in nodes if node.parent is not None)

    def _descend(self, tokens: Tokens, adapter: str | None) -> tuple[Node, int]:
        """The node in which the known part of `tokens` ends, and its length."""
        node = self._roots.setdefault(adapter, Node((), 0, None))
        length = 0
        while length < len(tokens) and (child := node.children.get(tokens[length])) is not None:
            shared = _common(child.tokens, tokens[length : length + len(child.tokens)])
            node, length = child, length + shared
            if shared < len(child.tokens):
                break
        return node, length

    def _split(self, node: Node, at: int) -> Node:
        """Divide a node after its first `at` tokens; returns the new upper half."""
        above = node.parent
        assert above is not None
        upper = Node(node.tokens[:at], node.start + at, above, node.used)
        above.children[node.tokens[0]] = upper
        node.tokens, node.parent = node.tokens[at:], upper
        upper.children[node.tokens[0]] = node
        return upper

    def _superfluous(self, node: Node) -> list[int]:
        """The idle sequences at a node and above it, which its own sequence covers; they are taken out."""
        covered = [s for s in node.sequences if s in self._idle]
        above = node.parent
        while above is not None:
            covered += [s for s in above.sequences if s in self._idle]
            above = above.parent
        for sequence in covered:
            self.remove(sequence)
        return covered

    def _prune(self, node: Node) -> None:
        while node.parent is not None and not node.children and not node.sequences:
            self._forget_output(node)
            del node.parent.children[node.tokens[0]]
            self.size -= len(node.tokens)
            node = node.parent

    def _below(self, node: Node) -> int:
        while not node.sequences:
            node = next(iter(node.children.values()))
        return next(iter(node.sequences))

    def _forget_output(self, node: Node) -> None:
        if (output := self._outputs.pop(node, None)) is not None:
            self._kept -= _bytes(output)


def _common(first: Tokens, second: Tokens) -> int:
    """How many tokens two stretches begin with alike."""
    if first == second:
        return len(first)
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))


def _bytes(output: Output) -> int:
    return output.logits.nbytes + (0 if output.hidden is None else output.hidden.nbytes)
