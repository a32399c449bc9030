"""The prefix cache: the radix tree and the context that it describes, kept in step.

When the cells run out, or when too many are held by what nobody wants any more, idle prefixes go, those that
were not wanted for longest first, and the rest is moved together. An idle cell costs speed too, since every
row looks at it: after `patience` rows it has cost as much as it would to compute it anew, and may go.
"""

from collections.abc import Callable, Sequence

from rlm_agent.models.gguf.engine.adapters import Adapters
from rlm_agent.models.gguf.engine.context import Computed, Context, Row
from rlm_agent.models.gguf.engine.jobs import Tokens
from rlm_agent.models.gguf.engine.radix import Output, RadixTree

Held = tuple[int, Tokens, str | None]
"""A live sequence, the tokens that it holds, and the adapter that computed them."""

_SLACK = 8  # after making room, an eighth of the cells is free, so that it is not made at every step
_LEAST_TIDIED = 256


class Cache:
    """What the context holds, by prefix. `live` is to tell, when asked, what live sequences hold."""

    def __init__(self, context: Context, adapters: Adapters, *, patience: int) -> None:
        self._context = context
        self._adapters = adapters
        self._patience = patience
        self.live: Callable[[], list[Held]] = list
        self.decoded = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything, live sequences too."""
        self._context.clear()
        self._tree = RadixTree()
        self._now = 0
        self._tidy_at = _LEAST_TIDIED

    @property
    def batch(self) -> int:
        """The most rows of one batch."""
        return min(self._context.batch, self._context.room)

    def use_adapter(self, adapter: str | None, busy: bool) -> bool:
        """Whether the adapter is in force; unless the context is busy with another, it is put in force."""
        if adapter != self._adapters.current and not busy:
            self._adapters.use(adapter)
        return adapter == self._adapters.current

    def known(self, tokens: Tokens, adapter: str | None) -> int:
        """How many tokens of a prompt are cached."""
        return self._tree.match(tokens, adapter, self._now)[0]

    def fork(
        self, tokens: Tokens, adapter: str | None, *, claimed: int, hidden: bool
    ) -> tuple[int, int, Output | None] | None:
        """A new live sequence that holds what is known of `tokens`, how many that is, and their output.

        The last token is among them only where its output is known too. None where `claimed` and the missing
        cells, or one more sequence, cannot be had now.
        """
        if not self._free_sequence():
            return None
        for _ in range(2):  # making room may take away what was found
            known, source, output = self._find(tokens, adapter, hidden)
            needed = claimed + len(tokens) - known + 1
            if needed <= self._context.room:
                return self._context.fork(source, known) if known else self._context.open(), known, output
            if not self.make_room(needed):
                return None
        return None

    def settle(self, sequence: int, tokens: Tokens, adapter: str | None) -> None:
        """A live sequence is needed no more; what it holds stays cached."""
        if not tokens:
            self._context.drop(sequence)
            return
        self._place(sequence, tokens, adapter)
        if not self._tree.settle(sequence):
            self._context.drop(sequence)

    def remember(self, sequence: int, tokens: Tokens, adapter: str | None, output: Output) -> None:
        """Keep the output after the tokens of a live sequence, and let others fork it."""
        self._place(sequence, tokens, adapter)
        self._tree.remember(sequence, output)

    def release(self, tokens: Tokens, keep: int, adapter: str | None) -> None:
        """Nobody will go on from `tokens`: forget all that does beyond the first `keep` of them."""
        for sequence in self._tree.idle_below(tokens, keep, adapter):
            self._shorten(sequence, keep)

    def make_room(self, rows: int) -> bool:
        """See that so many rows can be fed, by evicting what is idle; False where that is not enough."""
        if rows <= self._context.room:
            return True
        self._place_live()
        cells = self._context.cells
        self._evict(goal=min(cells, rows + cells // _SLACK))
        if cells - self._tree.size < rows:
            return False
        self._compact()
        return True

    def tidy(self) -> None:
        """Now and then, evict what has been idle for too long, and give back the cells that hold nothing."""
        used = self._context.cells - self._context.room
        if used < self._tidy_at:
            return
        self._place_live()
        self._evict(goal=0)
        if self._tree.size < used * 3 // 4:
            self._compact()
        used = self._context.cells - self._context.room
        self._tidy_at = used + max(_LEAST_TIDIED, used // 2)

    def decode(self, rows: Sequence[Row], *, hidden: bool) -> Computed:
        """Feed a batch."""
        self._now += len(rows)
        self.decoded += len(rows)
        return self._context.decode(rows, hidden=hidden)

    def _find(self, tokens: Tokens, adapter: str | None, hidden: bool) -> tuple[int, int, Output | None]:
        known, source = self._tree.match(tokens, adapter, self._now)
        output = self._tree.output(tokens, adapter) if known == len(tokens) else None
        if output is not None and (output.hidden is not None or not hidden):
            return known, source, output
        return min(known, len(tokens) - 1), source, None

    def _free_sequence(self) -> bool:
        if self._context.free_sequences:
            return True
        if (oldest := self._tree.oldest()) is None:
            return False
        self._tree.remove(oldest[0])
        self._context.drop(oldest[0])
        return True

    def _place(self, sequence: int, tokens: Tokens, adapter: str | None) -> None:
        for superfluous in self._tree.place(sequence, tokens, adapter, self._now):
            self._context.drop(superfluous)

    def _place_live(self) -> None:
        for sequence, tokens, adapter in self.live():
            if tokens:
                self._place(sequence, tokens, adapter)

    def _evict(self, goal: int) -> None:
        """Evict what was idle for too long, and then more, until so many cells are free."""
        while (oldest := self._tree.oldest()) is not None:
            sequence, used = oldest
            free = self._context.cells - self._tree.size
            if free >= goal and used >= self._now - self._patience:
                return
            self._apply(sequence, self._tree.shorten(sequence))

    def _shorten(self, sequence: int, keep: int) -> None:
        """Cut an idle sequence back to `keep` tokens, or as far as it does not share them."""
        length = keep + 1
        while length > keep:
            length = self._tree.shorten(sequence, keep)
        self._apply(sequence, length)

    def _apply(self, sequence: int, length: int) -> None:
        """Let the context follow the tree, in which a sequence was cut back; to nothing, it was taken out."""
        if length:
            self._context.shorten(sequence, length)
        else:
            self._context.drop(sequence)

    def _compact(self) -> None:
        self._context.compact(self._tree.segments())
