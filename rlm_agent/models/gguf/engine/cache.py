"""The prefix cache: the radix tree and the context that it describes, kept in step.

Every row looks at every cell in use, if only to pass over it, so that idle cells cost speed. When that has
cost enough, or none are free, what nobody works with is put aside in ordinary memory, and the rest is moved
together. To load it again takes a thousandth of the time that it takes to compute it again.
"""

from collections.abc import Callable, Sequence

from rlm_agent.models.gguf.engine.adapters import Adapters
from rlm_agent.models.gguf.engine.cells import Move, Row
from rlm_agent.models.gguf.engine.context import Computed, Context
from rlm_agent.models.gguf.engine.jobs import Tokens
from rlm_agent.models.gguf.engine.nodes import Match, Node, Output, Piece
from rlm_agent.models.gguf.engine.radix import RadixTree

Held = tuple[int, Tokens, str | None]
"""A live sequence, the tokens that it holds, and the adapter that computed them."""

_RENT = 1 / 20
"""What a row's look at a cell costs, in moves of a cell; of any model, since both go with a cell's size."""

_LEAST = 64
"""Idle cells that are worth moving all others."""

_CONTEXTS = 4
"""How many contexts full of cells are put aside at most, so that many short searches do not fill `memory`."""


class Cache:
    """What is known, by prefix. `live` is to tell, when asked, what live sequences hold.

    `memory` bounds the bytes that are put aside, and so do `_CONTEXTS`.
    """

    def __init__(self, context: Context, adapters: Adapters, *, memory: int = 1_000_000_000) -> None:
        self._context = context
        self._cells, self._pages = context.cells, context.cells.pages
        self._adapters = adapters
        self._memory = memory
        self.live: Callable[[], list[Held]] = list
        self.decoded = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything, live sequences too."""
        self._cells.clear()
        self._tree = RadixTree()
        self._rent, self._wanted = 0.0, 0

    @property
    def batch(self) -> int:
        """The most rows of one batch."""
        return self._context.batch

    @property
    def room(self) -> int:
        """How many cells can be filled now."""
        return self._cells.room

    def cost(self, fed: int, rows: int) -> int:
        """How many cells it takes to feed a sequence of `fed` tokens so many rows."""
        return self._pages.cost(fed, rows)

    def fit(self, fed: int, room: int) -> int:
        """How many rows a sequence of `fed` tokens can be fed with `room` cells."""
        return self._pages.fit(fed, room)

    def use_adapter(self, adapter: str | None, busy: bool) -> bool:
        """Whether the adapter is in force; unless the context is busy with another, it is put in force."""
        if adapter != self._adapters.current and not busy:
            self._adapters.use(adapter)
        return adapter == self._adapters.current

    def known(self, tokens: Tokens, adapter: str | None) -> int:
        """How many tokens of a prompt are cached."""
        return self._tree.match(tokens, adapter, self.decoded).length

    def fork(
        self, tokens: Tokens, adapter: str | None, *, claimed: int, looks: bool, hidden: bool
    ) -> tuple[int, int, Output | None] | None:
        """A new live sequence that holds what is known of `tokens`, how many that is, and their output.

        The last token is among them only where its output is known too, and it `looks` for one, with the
        hidden state if that is wanted. None where the `claimed` cells and those for what is missing, or one
        more sequence, cannot be had now.
        """
        if not self._cells.free_sequences:
            self._place_live()
            if not self._compact():
                return None
        for _ in range(2):  # making room puts aside what was found
            found = self._tree.match(tokens, adapter, self.decoded)
            output = self._output(tokens, adapter, hidden) if looks and found.length == len(tokens) else None
            known = found.length if output is not None else min(found.length, len(tokens) - 1)
            needed = claimed + self._price(found, known) + self.cost(known, len(tokens) - known + 1)
            if needed <= self.room:
                return self._open(found, tokens[:known], adapter), known, output
            if not self.make_room(needed):
                return self._begin_anew(tokens, claimed)
        return None

    def settle(self, sequence: int, tokens: Tokens, adapter: str | None) -> None:
        """A live sequence is needed no more; what it holds stays cached."""
        if tokens:
            self._place(sequence, tokens, adapter)
            if self._tree.settle(sequence):
                self._cells.rest(sequence)
                return
        self._cells.drop(sequence)

    def remember(self, sequence: int, tokens: Tokens, adapter: str | None, output: Output) -> None:
        """Keep the output after the tokens of a live sequence, and let others fork it."""
        self._place(sequence, tokens, adapter)
        self._tree.remember(sequence, output)

    def release(self, tokens: Tokens, keep: int, adapter: str | None) -> None:
        """Nobody will go on from `tokens`: forget all that does beyond the first `keep` of them."""
        for sequence in self._tree.forget(tokens, keep, adapter):
            if length := self._tree.shorten(sequence, keep):
                self._cells.shorten(sequence, length)
            else:
                self._cells.drop(sequence)

    def make_room(self, cells: int) -> bool:
        """See that so many cells are free, by putting aside what is idle; False where that is not enough."""
        if cells > self.room:
            if self._cells.size - self._live_cells() < cells:
                return False
            self._compact()
        return True

    def tidy(self) -> None:
        """Put aside what is idle once the looks at it have cost as much as moving everything does."""
        if self._rent < self._used:
            return
        self._rent, self._wanted = 0.0, self._live_cells()
        if self._used >= self._wanted + _LEAST:
            self._compact()

    def decode(self, rows: Sequence[Row], *, hidden: bool) -> Computed:
        """Feed a batch."""
        self.decoded += len(rows)
        self._rent += _RENT * len(rows) * (self._used - self._wanted)
        return self._context.decode(rows, hidden=hidden)

    @property
    def _used(self) -> int:
        return self._cells.size - self.room

    def _output(self, tokens: Tokens, adapter: str | None, hidden: bool) -> Output | None:
        output = self._tree.output(tokens, adapter)
        return None if output is not None and hidden and output.hidden is None else output

    def _begin_anew(self, tokens: Tokens, claimed: int) -> tuple[int, int, Output | None] | None:
        """Where what was put aside cannot be loaded, since more went with it, all is computed again."""
        needed = claimed + self.cost(0, len(tokens) + 1)
        return (self._cells.open(), 0, None) if self.make_room(needed) else None

    def _price(self, found: Match, known: int) -> int:
        """How many cells `_open` takes at most."""
        blobs = [piece.blob for piece in found.pieces]
        tail = known % self._pages.size and (not blobs or blobs[-1].end != known)
        return sum(self._pages.up(b.end - b.start) for b in blobs) + (self._pages.size if tail else 0)

    def _open(self, found: Match, known: Tokens, adapter: str | None) -> int:
        if not known:
            return self._cells.open()
        if not found.pieces:
            return self._cells.fork(found.sequence, min(found.held, len(known)))
        shared = self._pages.down(found.pieces[0].start)
        sequence = self._cells.fork(found.sequence, shared) if shared else self._cells.open()
        *pieces, last = found.pieces
        for piece in pieces:
            self._cells.load(Move(piece, [sequence], []))
        self._cells.load(Move(last._replace(end=len(known)), [], [sequence]))
        self._place(sequence, known, adapter)  # for its siblings, who need not load it again
        return sequence

    def _place(self, sequence: int, tokens: Tokens, adapter: str | None) -> None:
        for superfluous in self._tree.place(sequence, tokens, adapter, self.decoded):
            self._cells.drop(superfluous)

    def _place_live(self) -> None:
        for sequence, tokens, adapter in self.live():
            if tokens:
                self._place(sequence, tokens, adapter)

    def _live_cells(self) -> int:
        self._place_live()
        return sum(self._live_in(node) for node in self._tree.inside() if node.live)

    def _live_in(self, node: Node) -> int:
        """Cells for a node's whole pages, and a page for each live sequence that ends amid one."""
        whole = self._pages.down(node.end) - self._pages.down(node.start)
        begun = len(self._tree.ending(node)) if node.end % self._pages.size else 0
        return whole + self._pages.size * begun

    def _compact(self) -> bool:
        """Put aside all that is idle, and move what was placed together; False where nothing is idle."""
        nodes = self._tree.inside()
        through = self._tree.through(nodes)
        moves, starts = [], dict[Node, int]()
        for node in nodes:
            if node.live:
                node.aside = None
                start = starts.pop(node, node.start)
                if (heir := self._tree.heir(node)) is not None:
                    starts[heir] = start
                else:
                    moves += self._moves(node, start, through[node])
            elif node.aside is None:
                node.aside = self._cells.save(self._tree.any_of(node), node.start, node.end)
        idle = self._tree.put_aside()
        self._cells.rebuild(moves, idle)
        self._bound_memory()
        return bool(idle)

    def _moves(self, node: Node, start: int, through: list[int]) -> list[Move]:
        """How the live sequences through a node get it again, from position `start` on."""
        ending = self._tree.ending(node)
        end = node.end if ending else self._pages.down(node.end)
        if end <= self._pages.down(start):
            return []
        blob = self._cells.save(self._tree.any_of(node), start, end)
        others = [sequence for sequence in through if sequence not in ending]
        return [Move(Piece(start, end, blob), others, ending)]

    def _bound_memory(self) -> None:
        """Forget what was put aside and not wanted for longest, where it is too much."""
        nodes = self._tree.aside()
        size = sum(self._bytes(node.piece) for node in nodes)
        cells = sum(self._aside(node.piece) for node in nodes)
        memory = min(self._memory, _CONTEXTS * self._cells.size * size // max(1, cells))
        if size <= memory:
            return
        for node in sorted(nodes, key=lambda node: (node.used, -node.end)):  # children before parents
            if size > memory * 3 // 4 and not node.children:
                size -= self._bytes(node.piece)
                self._tree.drop(node)

    def _aside(self, piece: Piece) -> int:
        """Cells that were put aside for a piece, with what stands before it in its first page."""
        return piece.end - self._pages.down(piece.start)

    def _bytes(self, piece: Piece) -> int:
        return piece.blob.size * self._aside(piece) // (piece.blob.end - piece.blob.start)
