"""Pages: which cells of the cache rows take, so that a sum over the cells comes out alike wherever they lie.

A vectorised sum over the cells adds up groups of neighbours, and a masked cell adds nothing. So it does not
depend on what else is in the cache where position p of a sequence lies in lane p % `size` of a page that
holds positions of this sequence alone, and where its pages lie in the order of positions. Sequences share
whole pages; of one that is begun each has a copy of its own. A page of one cell leaves rows where they come.
"""

from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Page:
    """A page that is begun: its first cell, and the sequence of llama.cpp that keeps its free lanes."""

    base: int
    keeper: int


@dataclass(slots=True)
class Taken:
    """Where the rows of a batch go: a cell for each, and the lanes [first, end) to be freed in each page."""

    cells: list[int] = field(default_factory=list)
    lanes: dict[Page, tuple[int, int]] = field(default_factory=dict)


class Pages:
    """The bookkeeping for `cells` cells in pages of `size`; `keepers` are sequences that may keep free lanes.

    Cells are given out in order and come back all at once, with `clear`.
    """

    def __init__(self, size: int, cells: int, keepers: list[int]) -> None:
        self.size = size
        self.cells = self.up(cells)
        self._keepers = keepers
        self.clear()

    def clear(self) -> None:
        """All cells are free."""
        self.top = 0
        self._begun: dict[int, Page] = {}
        self._free = list(self._keepers)

    @property
    def room(self) -> int:
        """How many cells are left."""
        return self.cells - self.top

    def down(self, position: int) -> int:
        """Where the page of a position begins."""
        return position - position % self.size

    def up(self, position: int) -> int:
        """The end of the page of the position before."""
        return self.down(position + self.size - 1)

    def cost(self, position: int, rows: int) -> int:
        """How many cells it takes to feed a sequence so many rows from a position on."""
        return self.up(position + rows) - self.up(position)

    def fit(self, position: int, room: int) -> int:
        """How many rows a sequence can be fed from a position on with `room` cells."""
        return self.up(position) - position + self.down(room)

    def begin(self, sequence: int, base: int) -> Page:
        """A sequence begins a page, whose free lanes are still to be kept."""
        page = self._begun[sequence] = Page(base, self._free.pop())
        return page

    def of(self, sequence: int) -> Page | None:
        """The page that a sequence has begun, None where its last one is full."""
        return self._begun.get(sequence)

    def leave(self, sequence: int) -> Page | None:
        """A sequence feeds no more rows; the page that it had begun, whose lanes are to be given up."""
        page = self._begun.pop(sequence, None)
        if page is not None:
            self._free.append(page.keeper)
        return page

    def take(self, taken: Taken, sequence: int, page: Page, lane: int) -> None:
        """The next row of a batch takes a lane of a page."""
        first, _ = taken.lanes.get(page, (lane, lane))
        taken.lanes[page] = first, lane + 1
        taken.cells.append(page.base + lane)
        if lane + 1 == self.size:
            del self._begun[sequence]

    def settle(self, taken: Taken) -> None:
        """The lanes of a batch are freed: who has none left to keep is free, too."""
        self._free += [page.keeper for page, (_, end) in taken.lanes.items() if end == self.size]
