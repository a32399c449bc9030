"""Settings of a context, chosen when a model is loaded: exactness first, then speed, by measuring."""

import time
from dataclasses import dataclass, replace

from rlm_agent.models.gguf.engine.cells import Move, Row
from rlm_agent.models.gguf.engine.context import EXACT_BATCH, Context
from rlm_agent.models.gguf.engine.nodes import Piece
from rlm_agent.models.gguf.engine.pace import cores
from rlm_agent.models.gguf.file import ModelFile, binding

_FAST_BATCH = 512
_EXACT_PARALLEL = 48
_FAST_PARALLEL = 128
_PAGE = 16
"""Cells: numbers that the widest vector of AVX-512 adds up at once."""

_FEW = 7
"""Rows up to which llama.cpp takes K-quants block by block; it unpacks them for more, and sums otherwise."""

_SUMS_OF_PAGES = ("LLAMAFILE", "AVX2")
"""What llama.cpp must be built with, or else its products of matrices go in strides of up to 64 cells."""

_MOST_PLAIN = 16_384
"""Cells from which on the plain kernel's scratch memory, half a GB with 32 heads, is too much."""

_PROBE_ROWS = 16
_PROBE_ROUNDS = 3
_PROBE_PREFIX, _PROBE_COPIES = 16, 31
_PROBE_LEAST = _PROBE_PREFIX + _PROBE_ROWS * _PAGE
_LARGE_FILE = 1_000_000_000
"""Bytes from which on all threads and flash attention are used without a measurement: it takes too long."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a context computes: `flash` attention or the plain kernel, rows a batch and, from the `fewest` to
    the `most`, those of them that are computed at once, jobs at a time, threads, and the cells of a page.

    `exact` tells whether results are the same to the bit whoever shares a batch. A run's identity holds what
    decides bits; threads do not, and are fewer while other processes take the cores.
    """

    exact: bool
    flash: bool
    batch: int
    fewest: int
    most: int
    parallel: int
    threads: int
    page: int = 1

    @property
    def identity(self) -> str:
        """What a stored run must meet again to go on in the same way."""
        rows = f"{self.fewest}-{self.most}" if self.fewest > 2 else f"{self.most}"
        return f"{'flash' if self.flash else 'plain'}:{rows}{':exact' if self.exact else ''}"


def tuned_context(
    file: ModelFile, *, cells: int, threads: int | None, exact: bool
) -> tuple[Context, Settings]:
    """A context over `cells` cells, and how it was set. `threads` that are given are used whatever happens.

    Exact is, in small batches on the CPU, the plain kernel over pages on a processor with AVX2 or more, and
    flash attention on others and over very many cells; three small batches tell whether it is. Otherwise both
    kernels are timed on a tree of short branches over a prefix, and the faster one is taken.
    """
    chosen = threads or cores()
    if exact and file.gpu_layers == 0:
        settings = _exact(file, cells, chosen)
    else:
        flash = _flash_is_faster(file, chosen)
        settings = _fast(flash, chosen)
    context = _make(file, cells, settings)
    if settings.exact:
        settings = _as_exact_as_computed(file, context, settings)
        context.compute_at_once(settings.fewest, settings.most)
    if threads is None:
        settings = replace(settings, threads=_best_threads(file, context, chosen))
        context.pace(settings.threads)
    return context, settings


def _exact(file: ModelFile, cells: int, threads: int) -> Settings:
    """Exact settings: with pages of what is summed up at once, where we know how that is done.

    The free lanes of a page shall not leave a sliding window before it is full.
    """
    info = binding().llama_print_system_info().decode()
    fits = cells <= _MOST_PLAIN and not 0 < binding().llama_model_n_swa(file.handle) <= _PAGE
    paged = fits and all(f"{part} = 1" in info for part in _SUMS_OF_PAGES)
    page = _PAGE if paged else 1
    return Settings(True, not paged, EXACT_BATCH, 2, EXACT_BATCH, _EXACT_PARALLEL, threads, page)


def _fast(flash: bool, threads: int) -> Settings:
    return Settings(False, flash, _FAST_BATCH, 2, _FAST_BATCH, _FAST_PARALLEL, threads)


def _as_exact_as_computed(file: ModelFile, context: Context, settings: Settings) -> Settings:
    """Exact settings, as far as a row comes out alike however many rows are computed with it.

    Kernels may take rows in pairs, so that no number of rows is exact, or otherwise from eight on. Then eight
    or more are computed, which is far faster for many branches and slower for a single one. Of experts, each
    gets any number of rows, but never more than there are.
    """
    few, many = replace(settings, most=_FEW), replace(settings, fewest=_FEW + 1)
    if context.cells.size <= _FEW + 1:
        return few
    two, three, eight, nine = (_first_of(context, rows) for rows in (2, 3, _FEW + 1, _FEW + 2))
    if two == three == eight:
        return settings
    if eight == nine and file.hyperparameter("expert_count") in (None, "0"):
        return many
    return few if two == three else replace(settings, exact=False)


def _first_of(context: Context, rows: int) -> bytes:
    """The logits of the first of so many rows; leaves the context clear."""
    sequence = context.cells.open()
    computed = context.decode([Row(0, position, sequence, True) for position in range(rows)])
    context.cells.clear()
    logits: bytes = computed.logits[0].tobytes()
    return logits


def _make(file: ModelFile, cells: int, settings: Settings) -> Context:
    return Context(
        file,
        cells=cells,
        batch=settings.batch,
        threads=settings.threads,
        flash_attention=settings.flash,
        page=settings.page,
    )


def _best_threads(file: ModelFile, context: Context, most: int) -> int:
    """A power of two or all, whichever decodes a few rows faster just now."""
    if most == 1 or file.path.stat().st_size >= _LARGE_FILE or context.cells.room < _PROBE_LEAST:
        return most
    seconds = {}
    for threads in sorted({most, *(1 << n for n in range(most.bit_length()))}):
        context.use_threads(threads)
        seconds[threads] = _seconds(context, 0)
    return min(seconds, key=lambda threads: seconds[threads])


def _flash_is_faster(file: ModelFile, threads: int) -> bool:
    """Whether flash attention decodes branches over a prefix of some hundred tokens faster just now."""
    if file.path.stat().st_size >= _LARGE_FILE:
        return True
    seconds = {}
    for flash in (True, False):
        settings = _fast(flash, threads)
        cells = _PROBE_PREFIX * (_PROBE_COPIES + 1) + _PROBE_ROWS * _PROBE_ROUNDS
        context = _make(file, cells, settings)
        seconds[flash] = _seconds(context, _PROBE_COPIES)
        context.close()
    return seconds[True] <= seconds[False]


def _seconds(context: Context, copies: int) -> float:
    """The best time for a row each of some branches over a prefix; leaves the context clear.

    The prefix is computed once and its cells loaded again `copies` times, which makes it as long to look at.
    """
    root = context.cells.open()
    context.decode([Row(0, position, root, False) for position in range(_PROBE_PREFIX)])
    piece = Piece(0, _PROBE_PREFIX, context.cells.save(root, 0, _PROBE_PREFIX))
    for _ in range(copies):
        context.cells.load(Move(piece, [root], []))
    branches = [context.cells.fork(root, _PROBE_PREFIX) for _ in range(_PROBE_ROWS)]
    best = float("inf")
    for step in range(_PROBE_ROUNDS):
        started = time.perf_counter()
        context.decode([Row(0, _PROBE_PREFIX + step, branch, True) for branch in branches])
        best = min(best, time.perf_counter() - started)
    context.cells.clear()
    return best
