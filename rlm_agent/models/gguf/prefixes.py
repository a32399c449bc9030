"""Sequences kept after their requests, so that whoever continues one need not compute it again."""

from collections import Counter, OrderedDict

from rlm_agent.models.gguf.context import Context

Tokens = tuple[int, ...]


class PrefixCache:
    """Token sequences that stand in the context, least recently used first; at most `capacity`."""

    def __init__(self, context: Context, capacity: int) -> None:
        self._context = context
        self._capacity = capacity
        self._sequences: OrderedDict[Tokens, int] = OrderedDict()
        self._lengths: Counter[int] = Counter()

    def clear(self) -> None:
        """Forget all, and whatever else the context holds."""
        self._sequences.clear()
        self._lengths.clear()
        self._context.clear()

    def known(self, tokens: Tokens) -> int:
        """How many tokens the longest known prefix has; the last of `tokens` is never among them."""
        return min(len(self._longest(tokens)), len(tokens) - 1)

    def fork(self, tokens: Tokens) -> tuple[int, int]:
        """A new sequence that holds the longest known prefix, and how many tokens that is.

        The last of `tokens` is never among them, so that feeding the rest yields logits.
        """
        prefix = self._longest(tokens)
        if not prefix:
            return self._context.open(), 0
        self._sequences.move_to_end(prefix)
        shared = min(len(prefix), len(tokens) - 1)
        return self._context.fork(self._sequences[prefix], shared), shared

    def _longest(self, tokens: Tokens) -> Tokens:
        for length in sorted(self._lengths, reverse=True):
            prefix = tokens[:length]
            if prefix in self._sequences:
                return prefix
        return ()

    def keep(self, tokens: Tokens, sequence: int) -> None:
        """Take over a sequence that holds `tokens`; it is dropped if another one does already."""
        if tokens in self._sequences:
            self._context.drop(sequence)
            return
        self._sequences[tokens] = sequence
        self._lengths[len(tokens)] += 1
        if len(self._sequences) > self._capacity:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        tokens, sequence = self._sequences.popitem(last=False)
        self._lengths[len(tokens)] -= 1
        if not self._lengths[len(tokens)]:
            del self._lengths[len(tokens)]
        self._context.drop(sequence)
