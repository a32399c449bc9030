"""Sequences kept after their requests, so that whoever continues one need not compute it again."""

from collections import Counter, OrderedDict
from collections.abc import Sequence

from rlm_agent.models.gguf.context import Context

Tokens = tuple[int, ...]


class PrefixCache:
    """Token sequences that stand in the context, least recently used first; at most `capacity`."""

    def __init__(self, context: Context, capacity: int) -> None:
        self._context = context
        self._capacity = capacity
        self._sequences: OrderedDict[Tokens, int] = OrderedDict()
        self._lengths: Counter[int] = Counter()

    def fork(self, tokens: Sequence[int]) -> tuple[int, int]:
        """A new sequence that holds the longest prefix known, and how many tokens that is.

        The last of `tokens` is never among them, so that feeding the rest yields logits.
        """
        for length in sorted(self._lengths, reverse=True):
            prefix = tuple(tokens[:length])
            if prefix in self._sequences:
                self._sequences.move_to_end(prefix)
                shared = min(length, len(tokens) - 1)
                return self._context.fork(self._sequences[prefix], shared), shared
        return self._context.open(), 0

    def keep(self, tokens: Tokens, sequence: int) -> None:
        """Take over a sequence that holds `tokens`; it is dropped if another one does already."""
        if tokens in self._sequences:
            self._context.drop(sequence)
            return
        self._sequences[tokens] = sequence
        self._lengths[len(tokens)] += 1
        self.shrink(self._capacity)

    def shrink(self, capacity: int) -> None:
        """Drop the least recently used until at most `capacity` are left."""
        while len(self._sequences) > capacity:
            tokens, sequence = self._sequences.popitem(last=False)
            self._lengths[len(tokens)] -= 1
            if not self._lengths[len(tokens)]:
                del self._lengths[len(tokens)]
            self._context.drop(sequence)
