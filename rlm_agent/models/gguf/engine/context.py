"""llama.cpp's context: sequences over one unified cache, decoded many at a time.

With a unified cache a fork only tags cells, so that it is free and a shared prefix is stored once.

What a token computes must not depend on who shares its batch or on what was computed before, or else a
search that was stopped and taken up again would go another way. On the CPU that holds to the bit under
three conditions, each of which was found by measuring:

- Flash attention. It walks over the cells one by one and passes over those of other sequences; the plain
  kernel sums all cells in groups, so that rounding depends on where in the cache a sequence happens to lie.
- From 2 to 63 rows a batch, and two outputs if any: one row alone and 64 or more take other kernels.
- The cells of a sequence lie in the order of its positions. So a cell is never used twice until `rebuild`
  has moved what is still wanted to the front, parents before children.
"""

import ctypes
import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.engine.pace import Pace
from rlm_agent.models.gguf.engine.radix import Blob, Piece
from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.structure.errors import DecodeError

MAX_SEQUENCES = 254
"""llama.cpp's own limit, less the two below."""

_HELD, _SPARE = MAX_SEQUENCES, MAX_SEQUENCES + 1
"""One holds the cells that nobody wants any more; the other gives a lone row company and moves segments."""

EXACT_BATCH = 63
"""The most rows that can be fed at once without another kernel taking over."""


@dataclass(frozen=True, slots=True)
class Row:
    """One token to feed: at which position, to which sequence, and whether its output is wanted."""

    token: int
    position: int
    sequence: int
    output: bool


class Computed(NamedTuple):
    """For the rows whose output was wanted: logits [outputs, vocabulary], hidden states [outputs, width]."""

    logits: NDArray[np.float32]
    hidden: NDArray[np.float32] | None


class CacheFullError(DecodeError):
    """No cell is free for a batch; `rebuild` or `clear`, and begin again."""


class Context:
    """A context of `cells` cache cells; not safe for use by several threads at once."""

    def __init__(
        self, file: ModelFile, *, cells: int, batch: int, threads: int, flash_attention: bool
    ) -> None:
        lib = self._lib = binding()
        params = lib.llama_context_default_params()
        params.n_seq_max, params.kv_unified = MAX_SEQUENCES + 2, True
        params.n_ctx = max(cells + 1, params.n_seq_max)  # for less, as for a smaller batch, llama.cpp aborts
        params.n_batch = params.n_ubatch = max(batch, params.n_seq_max)
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = int(flash_attention)
        self.handle = lib.llama_init_from_model(file.handle, params)
        if not self.handle:
            raise DecodeError(
                f"llama.cpp cannot make a context of {cells} cells for {file.path}; ask for a smaller context"
            )
        self._memory = lib.llama_get_memory(self.handle)
        self._pid = os.getpid()
        self._vocabulary, self._width = file.size, file.width
        self._cells = cells
        self.batch = batch
        self._hidden = False
        self._pace: Pace | None = None
        self._allocate(batch)
        self.clear()

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

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from now on; no bit depends on it."""
        self._lib.llama_set_n_threads(self.handle, threads, threads)

    def pace(self, threads: int) -> None:
        """Compute with so many threads from now on, and with one while other processes take the cores."""
        self.use_threads(threads)
        self._pace = Pace(threads, self.use_threads) if threads > 1 else None

    @property
    def room(self) -> int:
        """How many rows can be fed before the next `rebuild` or `clear`."""
        return self._cells - self._used

    @property
    def cells(self) -> int:
        """How many rows can be fed after a `clear`."""
        return self._cells

    @property
    def free_sequences(self) -> int:
        """How many sequences can still be opened."""
        return len(self._free)

    def clear(self) -> None:
        """Forget all sequences and free all cells."""
        self._lib.llama_memory_clear(self._memory, False)
        self._used = 0
        self._free = list(range(MAX_SEQUENCES - 1, -1, -1))

    def open(self) -> int:
        """A fresh, empty sequence."""
        return self._free.pop()

    def fork(self, sequence: int, length: int) -> int:
        """A new sequence that shares the first `length` positions of another; copies nothing."""
        fork = self.open()
        self._lib.llama_memory_seq_cp(self._memory, sequence, fork, 0, length)
        return fork

    def drop(self, sequence: int) -> None:
        """Give a sequence back; its cells stay taken until `rebuild` or `clear`."""
        self.shorten(sequence, 0)
        self._free.append(sequence)

    def shorten(self, sequence: int, length: int) -> None:
        """Forget what a sequence holds from position `length` on; its cells stay taken as with `drop`."""
        self._lib.llama_memory_seq_cp(self._memory, sequence, _HELD, length, -1)
        self._lib.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def save(self, sequence: int, start: int, end: int) -> Blob:
        """A copy of the cells that a sequence holds from position `start` to before `end`."""
        lib, memory, handle = self._lib, self._memory, self.handle
        lib.llama_memory_seq_cp(memory, sequence, _SPARE, start, end)
        size = lib.llama_state_seq_get_size(handle, _SPARE)
        data = (ctypes.c_uint8 * size)()
        lib.llama_state_seq_get_data(handle, data, size, _SPARE)
        lib.llama_memory_seq_rm(memory, _SPARE, -1, -1)
        return Blob(start, end, data)

    def load(self, piece: Piece, sequences: Sequence[int]) -> None:
        """Let sequences hold the positions of a piece, to the bit as they were; nothing is computed."""
        lib, memory, blob = self._lib, self._memory, piece.blob
        if not lib.llama_state_seq_set_data(self.handle, blob.data, len(blob.data), _SPARE):
            raise DecodeError("llama.cpp could not move its cache; load the model again")
        for sequence in sequences:
            lib.llama_memory_seq_cp(memory, _SPARE, sequence, piece.start, piece.end)
        lib.llama_memory_seq_cp(memory, _SPARE, _HELD, -1, -1)
        lib.llama_memory_seq_rm(memory, _SPARE, -1, -1)
        self._used += blob.end - blob.start

    def rebuild(self, pieces: Iterable[tuple[Piece, Sequence[int]]], dropped: Iterable[int]) -> None:
        """Free all cells and all `dropped` sequences, then load what the others hold, in this order."""
        self._lib.llama_memory_clear(self._memory, False)
        self._used = 0
        self._free += dropped
        for piece, sequences in pieces:
            self.load(piece, sequences)

    def decode(self, rows: Sequence[Row], *, hidden: bool = False) -> Computed:
        """Feed any number of rows; what was computed for those that want output, in their order.

        Hidden states, after the output norm, come with `hidden` only, which makes every row cost its logits.

        Raises `CacheFullError`, before anything is fed, where they are more than there is `room`, and
        `DecodeError` where llama.cpp gives up: nothing that is in the context can be relied on then.
        """
        if len(rows) > self.room:
            raise CacheFullError("the model's cache is full; ask for a larger context or fewer branches")
        self._want_hidden(hidden)
        parts = [self._decode(rows[i : i + self.batch], hidden) for i in range(0, len(rows), self.batch)]
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
        self._used += len(rows)
        wanted = [index for index, row in enumerate(rows) if row.output]
        lone = len(rows) == 1
        count = self._fill([*rows, Row(rows[0].token, 0, _SPARE, rows[0].output)] if lone else rows)
        if len(wanted) == 1:
            self._outputs[0 if wanted[0] else 1] = 1
        with self._pace.batch(count) if self._pace else nullcontext():
            self._run()
        if lone:
            self._lib.llama_memory_seq_rm(self._memory, _SPARE, -1, -1)
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
