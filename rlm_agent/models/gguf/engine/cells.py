"""The cells of llama.cpp's unified cache: which sequences hold which, and where the next rows go.

llama.cpp chooses cells itself: the first free ones. So that rows come to lie in their pages (`Pages`), all
other cells below the top are taken, and those that a batch shall fill are freed right before it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rlm_agent.models.gguf.engine.blobs import Blobs
from rlm_agent.models.gguf.engine.nodes import Blob, Piece
from rlm_agent.models.gguf.engine.pages import Page, Pages, Taken
from rlm_agent.models.gguf.file import binding

LIMIT = 256
"""llama.cpp's own limit of sequences."""

MAX_SEQUENCES = LIMIT - 4
"""How many can be open in pages of one cell."""

_KEEPERS = 64
"""Sequences that keep the free lanes of longer pages: more than jobs, and pages of a batch, at once."""

SPARE, _PART = LIMIT - 1, LIMIT - 2
"""One gives a lone row company, and both are on the way where segments move."""

_HELD, _GUARD = LIMIT - 3, LIMIT - 4
"""Who holds the cells that nobody wants any more; for sliding windows the second one holds all others, too.

A cell that one sequence alone holds, and that has left its window, would be given to others by llama.cpp.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One token to feed: at which position, to which sequence, and whether its output is wanted."""

    token: int
    position: int
    sequence: int
    output: bool


class Move(NamedTuple):
    """A piece to be loaded, for sequences that go on after it with another piece, and for those that end."""

    piece: Piece
    through: Sequence[int]
    ending: Sequence[int]


class Cells:
    """The cells of a context, `size` of them in pages of `page`; what is said of `Context` holds here too.

    `blanks` are the lanes of a page from each lane on, as `save` returned them, whatever they hold.
    """

    def __init__(self, handle: Any, size: int, page: int = 1, blanks: Sequence[Blob] = ()) -> None:
        self._lib = binding()
        self._memory = self._lib.llama_get_memory(handle)
        self._blobs = Blobs(handle, SPARE)
        self._sequences = MAX_SEQUENCES - (_KEEPERS if page > 1 else 0)
        self.pages = Pages(page, size, list(range(self._sequences, MAX_SEQUENCES)))
        self._blanks = blanks
        self.clear()

    @property
    def room(self) -> int:
        """How many cells can be filled before the next `rebuild` or `clear`."""
        return self.pages.room

    @property
    def size(self) -> int:
        """How many cells there are."""
        return self.pages.cells

    @property
    def free_sequences(self) -> int:
        """How many sequences can still be opened."""
        return len(self._free)

    def clear(self) -> None:
        """Forget all sequences and free all cells."""
        self._empty()
        self._free = list(range(self._sequences - 1, -1, -1))

    def open(self) -> int:
        """A fresh, empty sequence."""
        return self._free.pop()

    def fork(self, sequence: int, length: int) -> int:
        """A new sequence with the first `length` positions of another; copies a part of a page at most."""
        fork, whole = self.open(), self.pages.down(length)
        self._lib.llama_memory_seq_cp(self._memory, sequence, fork, 0, whole)
        if whole < length:
            self._append(fork, self.save(sequence, whole, length))
        return fork

    def drop(self, sequence: int) -> None:
        """Give a sequence back; its cells stay taken until `rebuild` or `clear`."""
        self.shorten(sequence, 0)
        self._free.append(sequence)

    def shorten(self, sequence: int, length: int) -> None:
        """Forget what a sequence holds from position `length` on; it is fed no more, but may be forked."""
        self.rest(sequence)
        self._give_up(sequence, length)

    def rest(self, sequence: int) -> None:
        """A sequence is fed no more; it may be forked."""
        if (page := self.pages.leave(sequence)) is not None:
            self._give_up(page.keeper)

    def save(self, sequence: int, start: int, end: int) -> Blob:
        """A copy of the cells that a sequence holds, from the page of position `start` on to before `end`."""
        return self._blobs.save(sequence, self.pages.down(start), end)

    def load(self, move: Move) -> None:
        """Let sequences hold the positions of a piece, to the bit as they were; nothing is computed."""
        piece, through, ending = move
        start, whole, end = self.pages.down(piece.start), self.pages.down(piece.end), piece.end
        own = ending[:1] if whole < end else []
        self._bring(piece.blob)
        for sequence in (*through, *ending):
            self._lib.llama_memory_seq_cp(self._memory, SPARE, sequence, start, whole)
        for sequence in own:
            self._lib.llama_memory_seq_cp(self._memory, SPARE, sequence, whole, end)
        self._give_up(SPARE)
        fits = piece.blob.end == end
        self._fill_page(piece.blob.end, own[0] if own and fits else None)
        if own and (not fits or len(ending) > 1):
            tail = self.save(own[0], whole, end)
            if not fits:
                self._lib.llama_memory_seq_rm(self._memory, own[0], whole, -1)
            for sequence in ending[1:] if fits else ending:
                self._append(sequence, tail)

    def rebuild(self, moves: Iterable[Move], dropped: Iterable[int]) -> None:
        """Free all cells and all `dropped` sequences, then load what the others hold, in this order."""
        self._empty()
        self._free += dropped
        for move in moves:
            self.load(move)

    def need(self, rows: Sequence[Row]) -> int:
        """How many cells it takes to feed rows."""
        return self.pages.size * sum(row.position % self.pages.size == 0 for row in rows)

    def place(self, rows: Sequence[Row]) -> list[int]:
        """Free the cells that rows shall fill; the order in which they have to be fed.

        Rows of a sequence stand in the order of their positions. There is room for all of them.
        """
        pages, taken = self.pages, Taken()
        if pages.size == 1:
            pages.top += len(rows)
            return list(range(len(rows)))
        for row in rows:
            lane = row.position % pages.size
            page = pages.of(row.sequence) or self._begin(row.sequence, lane)
            pages.take(taken, row.sequence, page, lane)
        for page, (first, end) in taken.lanes.items():
            self._lib.llama_memory_seq_rm(self._memory, page.keeper, first, end)
        pages.settle(taken)
        return sorted(range(len(rows)), key=taken.cells.__getitem__)

    def keep(self, rows: Sequence[Row]) -> None:
        """Let the cells of rows that were fed stay taken, even if they leave a sliding window."""
        if self._blobs.window:
            spans = dict[int, tuple[int, int]]()  # the rows of a sequence follow each other
            for row in rows:
                spans[row.sequence] = spans.get(row.sequence, (row.position, 0))[0], row.position + 1
            for sequence, span in spans.items():
                self._guard(sequence, *span)

    def free_spare(self) -> None:
        """Free the cell of a row that gave company."""
        self._lib.llama_memory_seq_rm(self._memory, SPARE, -1, -1)

    def _empty(self) -> None:
        self._lib.llama_memory_clear(self._memory, False)
        self.pages.clear()

    def _append(self, sequence: int, tail: Blob) -> None:
        """Let a sequence go on with a copy of a part of a page."""
        self._bring(tail)
        self._lib.llama_memory_seq_cp(self._memory, SPARE, sequence, -1, -1)
        self._give_up(SPARE)
        self._fill_page(tail.end, sequence)

    def _bring(self, blob: Blob) -> None:
        first, *others = blob.parts
        self._blobs.load(first, SPARE)
        self._guard(SPARE)
        for part in others:
            self._blobs.load(part, _PART)
            self._lib.llama_memory_seq_cp(self._memory, _PART, SPARE, -1, -1)
            self._guard(SPARE)
            self._lib.llama_memory_seq_rm(self._memory, _PART, -1, -1)
        self.pages.top += blob.end - blob.start

    def _fill_page(self, end: int, sequence: int | None) -> None:
        """Take the cells from the top to the end of the page; a sequence at `end` may go on there."""
        if lane := end % self.pages.size:
            if sequence is not None:
                self._begin(sequence, lane)
            else:
                self._blobs.load(self._blanks[lane].parts[0], SPARE)
                self._give_up(SPARE)
                self.pages.top += self.pages.size - lane

    def _begin(self, sequence: int, lane: int) -> Page:
        """Begin a page for a sequence, of which it holds what is before a lane."""
        page = self.pages.begin(sequence, self.pages.top - lane)
        self._blobs.load(self._blanks[lane].parts[0], page.keeper)
        self.pages.top += self.pages.size - lane
        return page

    def _guard(self, sequence: int, start: int = 0, end: int = -1) -> None:
        if self._blobs.window:
            self._lib.llama_memory_seq_cp(self._memory, sequence, _GUARD, start, end)

    def _give_up(self, sequence: int, start: int = 0) -> None:
        """Let a sequence hold nothing from position `start` on; its cells stay taken."""
        self._lib.llama_memory_seq_cp(self._memory, sequence, _HELD, start, -1)
        self._guard(sequence, start)
        self._lib.llama_memory_seq_rm(self._memory, sequence, start, -1)
