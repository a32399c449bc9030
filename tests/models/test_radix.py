"""The radix tree against a plain dictionary of which sequence holds what."""

from collections.abc import Sequence

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from rlm_agent.models.gguf.engine.radix import Output, RadixTree

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

    @rule(sequence=consumes(live))
    def remove(self, sequence: int) -> None:
        self.tree.remove(sequence)
        del self.held[sequence]

    @rule(keep=st.integers(0, 8))
    def shorten_the_oldest(self, keep: int) -> None:
        oldest = self.tree.oldest()
        assert (oldest is None) == (not self.idle)
        if oldest is None:
            return
        sequence = oldest[0]
        adapter, tokens = self.held[sequence]
        keep = min(keep, len(tokens) - 1)
        length = self.tree.shorten(sequence, keep)
        if length:
            assert keep <= length < len(tokens)
            self.held[sequence] = (adapter, tokens[:length])
        else:
            self.drop([sequence])

    @rule(sequence=live)
    def remember(self, sequence: int) -> None:
        adapter, tokens = self.held[sequence]
        output = Output(np.full(2, sequence, np.float32), None)
        self.tree.remember(sequence, output)
        assert self.tree.output(tokens, adapter) is output

    @rule(tokens=TOKENS, adapter=ADAPTERS)
    def match(self, tokens: tuple[int, ...], adapter: str | None) -> None:
        length, sequence = self.tree.match(tokens, adapter, self.now)
        assert length == self.longest(tokens, adapter)
        if length:
            assert self.held[sequence][0] == adapter
            assert self.held[sequence][1][:length] == tokens[:length]

    @invariant()
    def segments_are_what_the_sequences_hold(self) -> None:
        rebuilt: dict[int, int] = dict.fromkeys(self.held, 0)
        total = 0
        for start, end, sequences in self.tree.segments():
            assert len(set(sequences)) == len(sequences) > 0
            total += end - start
            for sequence in sequences:
                assert rebuilt[sequence] == start  # parents come first, without a gap
                rebuilt[sequence] = end
        assert rebuilt == {sequence: len(tokens) for sequence, (_, tokens) in self.held.items()}
        prefixes = {(a, tokens[:n]) for a, tokens in self.held.values() for n in range(1, len(tokens) + 1)}
        assert total == self.tree.size == len(prefixes)

    @invariant()
    def idle_sequences_hold_what_no_other_one_does(self) -> None:
        for sequence in self.idle:
            adapter, tokens = self.held[sequence]
            others = [held for other, (a, held) in self.held.items() if other != sequence and a == adapter]
            assert all(held[: len(tokens)] != tokens for held in others)


TestRadixTree = Machine.TestCase
TestRadixTree.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
