"""llama.cpp's context: sequences over one unified cache, decoded many at a time.

With a unified cache a fork only tags cells, so that it is free and a shared prefix is stored once.

What a token computes must not depend on who shares its batch or on what was computed before, or else a
search that was stopped and taken up again would go another way. On the CPU that holds to the bit under
three conditions, each of which was found by measuring:

- The plain kernel, and cells in pages (`Pages`): it sums all cells in groups. Or flash attention, which walks
  over the cells one by one, but is the less precise one, and several times slower over a long prefix.
- From 2 to 63 rows at once, and two outputs if any: one row alone and 64 or more take other kernels. With
  K-quants 2 to 7 take one kernel and 8 to 63 another (`compute_at_once`); where rows are too few, spare ones
  give them company.
- The cells of a sequence lie in the order of its positions. So a cell is never used twice until `rebuild`
  has moved what is still wanted to the front, parents before children.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.engine.cells import LIMIT, SPARE, Cells, Row
from rlm_agent.models.gguf.engine.nodes import Blob
from rlm_agent.models.gguf.engine.pace import Pace
from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.structure.errors import DecodeError

_SPARES = 8
"""Cells for rows that give others company."""

EXACT_BATCH = 63
"""The most rows that can be fed at once without another kernel taking over."""


class Computed(NamedTuple):
    """For the rows whose output was wanted: logits [outputs, vocabulary], hidden states [outputs, width]."""

    logits: NDArray[np.float32]
    hidden: NDArray[np.float32] | None


class CacheFullError(DecodeError):
    """No cell is free for a batch; `rebuild` or `clear`, and begin again."""


class Context:
    """A context of `cells` cache cells in pages of `page`; not safe for use by several threads at once."""

    def __init__(
        self, file: ModelFile, *, cells: int, batch: int, threads: int, flash_attention: bool, page: int = 1
    ) -> None:
        lib = self._lib = binding()
        params = lib.llama_context_default_params()
        params.n_seq_max, params.kv_unified = LIMIT, True
        params.n_ctx = max(cells + max(page, _SPARES), LIMIT)  # for less, as for a smaller batch, it aborts
        params.n_batch = params.n_ubatch = max(batch, LIMIT)
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = int(flash_attention)
        self.handle = lib.llama_init_from_model(file.handle, params)
        if not self.handle:
            raise DecodeError(
                f"llama.cpp cannot make a context of {cells} cells for {file.path}; ask for a smaller context"
            )
        self._pid = os.getpid()
        self._vocabulary, self._width = file.size, file.width
        self.batch = batch
        self.compute_at_once(2, batch)
        self._hidden = False
        self._pace: Pace | None = None
        self._allocate(batch)
        self.cells = Cells(self.handle, cells)
        if page > 1:
            self.cells = Cells(self.handle, cells, page, self._blanks(page))

    def _blanks(self, page: int) -> list[Blob]:
        sequence = self.cells.open()
        self.decode([Row(0, lane, sequence, False) for lane in range(page)])
        return [self.cells.save(sequence, lane, page) for lane in range(page)]

    def _allocate(self, size: int) -> None:
        raw = self._raw = self._lib.llama_batch_init(size, 0, 1)
        as_array = np.ctypeslib.as_array
        self._tokens = as_array(raw.token, shape=(size,))
        self._positions = as_array(raw.pos, shape=(size,))
        self._outputs = as_array(raw.logits, shape=(size,))
        self._sequences = [raw.seq_id[i] for i in range(size)]
        as_array(raw.n_seq_id, shape=(size,))[:] = 1

    def close(self) -> None:
        """Free the context."""
        if self.handle:
            self._lib.llama_batch_free(self._raw)
            self._lib.llama_free(self.handle)
            self.handle = None

    def require_usable(self) -> None:
        """`DecodeError` for a context that is closed, or that was made before this process was forked off."""
        if not self.handle:
            raise DecodeError("this model was closed; load it again")
        if os.getpid() != self._pid:
            raise DecodeError("this model was loaded before a fork; load it again in the new process")

    def compute_at_once(self, fewest: int, most: int) -> None:
        """Compute so many rows and outputs at once from now on, however many are fed."""
        self._fewest, self._most = fewest, most

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from now on; no bit depends on it."""
        self._lib.llama_set_n_threads(self.handle, threads, threads)

    def pace(self, threads: int) -> None:
        """Compute with so many threads from now on, and with one while other processes take the cores."""
        self.use_threads(threads)
        self._pace = Pace(threads, self.use_threads) if threads > 1 else None

    def decode(self, rows: Sequence[Row], *, hidden: bool = False) -> Computed:
        """Feed any number of rows; what was computed for those that want output, in their order.

        Hidden states, after the output norm, come with `hidden` only, which makes every row cost its logits.

        Raises `CacheFullError`, before anything is fed, where they are more than there is `room`, and
        `DecodeError` where llama.cpp gives up: nothing that is in the context can be relied on then.
        """
        if self.cells.need(rows) > self.cells.room:
            raise CacheFullError("the model's cache is full; ask for a larger context or fewer branches")
        self._want_hidden(hidden)
        parts = [self._decode(part, hidden) for part in _divided(rows, self._most)]
        if len(parts) == 1:
            return parts[0]
        logits = [np.empty((0, self._vocabulary), np.float32), *(part.logits for part in parts)]
        states = [part.hidden for part in parts if part.hidden is not None]
        return Computed(np.concatenate(logits), np.concatenate(states) if states else None)

    def _want_hidden(self, hidden: bool) -> None:
        if hidden != self._hidden:
            self._lib.llama_set_embeddings(self.handle, hidden)
            self._hidden = hidden

    def _decode(self, rows: Sequence[Row], hidden: bool) -> Computed:
        order = self.cells.place(rows)
        rows = [rows[index] for index in order]
        spares = [Row(rows[0].token, place, SPARE, False) for place in range(self._fewest - len(rows))]
        count = self._fill([*rows, *spares])
        wanted = sorted((index for index, row in enumerate(rows) if row.output), key=order.__getitem__)
        if wanted:
            unwanted = np.flatnonzero(self._outputs[:count] == 0)
            self._outputs[unwanted[: max(0, self._fewest - len(wanted))]] = 1
        with self._pace.batch(count) if self._pace else nullcontext():
            self._run()
        if spares:
            self.cells.free_spare()
        self.cells.keep(rows)
        if not wanted:
            return Computed(np.empty((0, self._vocabulary), np.float32), None)
        computed = np.arange(count) if hidden else np.flatnonzero(self._outputs[:count])
        chosen = np.searchsorted(computed, wanted)
        logits = self._array(self._lib.llama_get_logits(self.handle), len(computed), self._vocabulary)
        if not hidden:
            return Computed(logits[chosen], None)  # copies: the next call overwrites the originals
        states = self._array(self._lib.llama_get_embeddings(self.handle), len(computed), self._width)
        return Computed(logits[chosen], states[chosen])

    @staticmethod
    def _array(pointer: Any, rows: int, columns: int) -> NDArray[np.float32]:
        array: NDArray[np.float32] = np.ctypeslib.as_array(pointer, shape=(rows, columns))
        return array

    def _run(self) -> None:
        if code := self._lib.llama_decode(self.handle, self._raw):
            raise DecodeError(f"llama.cpp gave up on a batch (code {code}); load the model again")
        self._lib.llama_synchronize(self.handle)  # on a GPU, computing may still go on

    def _fill(self, rows: Sequence[Row]) -> int:
        count: int = len(rows)
        self._raw.n_tokens = count
        self._tokens[:count] = [row.token for row in rows]
        self._positions[:count] = [row.position for row in rows]
        self._outputs[:count] = [row.output for row in rows]
        for cell, row in zip(self._sequences, rows, strict=False):
            cell[0] = row.sequence
        return count


def _divided(rows: Sequence[Row], most: int) -> Iterator[Sequence[Row]]:
    """The rows in as few parts as possible of about the same size, `most` at most."""
    count = -(-len(rows) // most)
    for part in range(count):
        yield rows[part * len(rows) // count : (part + 1) * len(rows) // count]
