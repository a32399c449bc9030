"""The radix tree against a plain dictionary of which sequence holds what."""

from collections.abc import Sequence

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from rlm_agent.models.gguf.engine.nodes import Blob, Output
from rlm_agent.models.gguf.engine.radix import RadixTree

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)
ADAPTERS = st.sampled_from([None, "value"])


def shared(first: Sequence[int], second: Sequence[int]) -> int:
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return count


class Machine(RuleBasedStateMachine):
    """What sequences hold, told to the tree and noted beside it."""

    live = Bundle("live")

    def __init__(self) -> None:
        super().__init__()
        self.tree = RadixTree(memory=10 * 8)
        self.held: dict[int, tuple[str | None, tuple[int, ...]]] = {}
        self.idle: set[int] = set()
        self.aside: set[tuple[str | None, tuple[int, ...]]] = set()
        self.now = 0
        self.born = 0

    def drop(self, sequences: Sequence[int]) -> None:
        for sequence in sequences:
            assert sequence in self.idle
            self.idle.remove(sequence)
            del self.held[sequence]

    def longest(self, tokens: tuple[int, ...], adapter: str | None) -> int:
        return max((shared(tokens, held) for a, held in self.held.values() if a == adapter), default=0)

    @rule(target=live, tokens=TOKENS, adapter=ADAPTERS)
    def place(self, tokens: tuple[int, ...], adapter: str | None) -> int:
        self.now += 1
        self.born += 1
        self.held[self.born] = (adapter, tokens)
        self.drop(self.tree.place(self.born, tokens, adapter, self.now))
        return self.born

    @rule(sequence=live, more=TOKENS)
    def extend(self, sequence: int, more: tuple[int, ...]) -> None:
        self.now += 1
        adapter, tokens = self.held[sequence]
        self.held[sequence] = (adapter, (*tokens, *more))
        self.drop(self.tree.place(sequence, (*tokens, *more), adapter, self.now))

    @rule(sequence=consumes(live))
    def settle(self, sequence: int) -> None:
        before = {key: value for key, value in self.held.items() if key != sequence}
        if self.tree.settle(sequence):
            self.idle.add(sequence)
        else:
            adapter, tokens = self.held.pop(sequence)
            covered = [held for a, held in before.values() if a == adapter]
            assert any(held[: len(tokens)] == tokens for held in covered)

    def inside(self) -> set[tuple[str | None, tuple[int, ...]]]:
        """All prefixes that some sequence holds."""
        held = self.held.values()
        return {(adapter, tokens[:n]) for adapter, tokens in held for n in range(1, len(tokens) + 1)}

    @rule(tokens=TOKENS, keep=st.integers(0, 8), adapter=ADAPTERS)
    def release(self, tokens: tuple[int, ...], keep: int, adapter: str | None) -> None:
        """What lies beyond is gone, but for what a live sequence holds; all else stays."""
        keep = min(keep, len(tokens) - 1)
        before = self.inside() | self.aside
        for sequence in self.tree.forget(tokens, keep, adapter):
            held = self.held[sequence][1]
            assert shared(held, tokens) >= len(tokens) - 2
            if length := self.tree.shorten(sequence, keep):
                assert keep <= length < len(held)
                self.held[sequence] = (adapter, held[:length])
            else:
                self.drop([sequence])
        self.aside = {(a, t) for a, t in self.aside if self.tree.match(t, a, self.now).length == len(t)}
        for a, prefix in before - self.inside() - self.aside:
            assert a == adapter
            assert len(prefix) > keep
            assert shared(prefix, tokens) >= min(len(prefix), len(tokens) - 2)

    @rule()
    def put_aside(self) -> None:
        nodes = self.tree.inside()
        through = self.tree.through(nodes)
        for node in nodes:
            assert all(sequence not in self.idle for sequence in through[node])
            assert bool(node.live) == bool(through[node])
            node.aside = Blob(node.start, node.end, ())
        before = self.inside()
        self.drop(self.tree.put_aside())
        assert not self.idle
        self.aside |= before - self.inside()
        for node in nodes:
            if node.live:
                node.aside = None
        self.aside -= self.inside()

    @rule()
    def drop_the_oldest(self) -> None:
        leaves = [node for node in self.tree.aside() if not node.children]
        for node in leaves[:1]:
            self.tree.drop(node)
        self.aside = {(a, t) for a, t in self.aside if self.tree.match(t, a, self.now).length == len(t)}

    @rule(sequence=live)
    def remember(self, sequence: int) -> None:
        adapter, tokens = self.held[sequence]
        output = Output(np.full(2, sequence, np.float32), None)
        self.tree.remember(sequence, output)
        assert self.tree.output(tokens, adapter) is output

    @rule(tokens=TOKENS, adapter=ADAPTERS)
    def match(self, tokens: tuple[int, ...], adapter: str | None) -> None:
        found = self.tree.match(tokens, adapter, self.now)
        everything = [t for a, t in self.inside() | self.aside if a == adapter]
        assert found.length == max((shared(tokens, known) for known in everything), default=0)
        assert found.held == self.longest(tokens, adapter)
        if found.held:
            assert self.held[found.sequence][0] == adapter
            assert self.held[found.sequence][1][: found.held] == tokens[: found.held]
        at = found.held
        for piece in found.pieces:
            assert (piece.start, piece.blob.start <= piece.start) == (at, True)
            assert piece.end <= piece.blob.end
            at = piece.end
        assert at >= found.length

    @invariant()
    def nodes_are_what_the_sequences_hold(self) -> None:
        rebuilt: dict[int, int] = {s: 0 for s in self.held if s not in self.idle}
        nodes = self.tree.inside()
        for node in nodes:
            for sequence in self.tree.through(nodes)[node]:
                assert rebuilt[sequence] == node.start  # parents come first, without a gap
                rebuilt[sequence] = node.end
        assert rebuilt == {s: len(tokens) for s, (_, tokens) in self.held.items() if s not in self.idle}
        assert sum(len(node.tokens) for node in nodes) == len(self.inside())

    @invariant()
    def idle_sequences_hold_what_no_other_one_does(self) -> None:
        for sequence in self.idle:
            adapter, tokens = self.held[sequence]
            others = [held for other, (a, held) in self.held.items() if other != sequence and a == adapter]
            assert all(held[: len(tokens)] != tokens for held in others)


TestRadixTree = Machine.TestCase
TestRadixTree.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_what_was_put_aside_before_the_kept_length_outlives_a_release() -> None:
    tree = RadixTree()
    tree.place(1, (1, 1), None, 1)
    tree.settle(1)
    for node in tree.inside():
        node.aside = Blob(node.start, node.end, ())
    tree.put_aside()
    assert tree.forget((1, 1), 1, None) == []
    assert tree.match((1, 1), None, 2).length == 1
