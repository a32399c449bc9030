"""llama.cpp's context: sequences over one unified cache, decoded many at a time.

With a unified cache a fork only tags cells, so that it is free and a shared prefix is stored once.

What a token computes must not depend on who shares its batch or on what was computed before, or else a
search that was stopped and taken up again would go another way. On the CPU that holds to the bit under
three conditions, each of which was found by measuring:

- Flash attention. It walks over the cells one by one and passes over those of other sequences; the plain
  kernel sums all cells in groups, so that rounding depends on where in the cache a sequence happens to lie.
- From 2 to 63 rows a batch, and two outputs if any: one row alone and 64 or more take other kernels.
- The cells of a sequence lie in the order of its positions. So a cell is never used twice before `clear`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.structure.errors import DecodeError

MAX_SEQUENCES = 254
"""llama.cpp's own limit, less the two below."""

_HELD, _SPARE = (
    MAX_SEQUENCES,
    MAX_SEQUENCES + 1,
)  # holds the cells of dropped sequences; gives a lone row company

EXACT_BATCH = 63
"""The most rows that can be fed at once without another kernel taking over."""


@dataclass(frozen=True, slots=True)
class Row:
    """One token to feed: at which position, to which sequence, and whether its logits are wanted."""

    token: int
    position: int
    sequence: int
    output: bool


class CacheFullError(DecodeError):
    """No cell is free for a batch; `clear` and begin again."""


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
        self._handle = lib.llama_init_from_model(file.handle, params)
        if not self._handle:
            raise DecodeError(
                f"llama.cpp cannot make a context of {cells} cells for {file.path}; ask for a smaller context"
            )
        self._memory = lib.llama_get_memory(self._handle)
        self._pid = os.getpid()
        self._vocabulary = file.size
        self._cells = cells
        self._batch = batch
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
        if self._handle:
            self._lib.llama_batch_free(self._raw)
            self._lib.llama_free(self._handle)
            self._handle = None

    def require_usable(self) -> None:
        """`DecodeError` for a context that is closed, or that was made before this process was forked off."""
        if not self._handle:
            raise DecodeError("this model was closed; load it again")
        if os.getpid() != self._pid:
            raise DecodeError("this model was loaded before a fork; load it again in the new process")

    @property
    def room(self) -> int:
        """How many rows can be fed before the next `clear`."""
        return self._cells - self._used

    def clear(self) -> None:
        """Forget all sequences and free all cells."""
        self._lib.llama_memory_clear(self._memory, False)
        self._used = 0
        self._free = list(range(MAX_SEQUENCES - 1, -1, -1))
        self._own: dict[int, int] = {}  # from which position on a sequence has cells that it does not share

    def open(self) -> int:
        """A fresh, empty sequence."""
        sequence = self._free.pop()
        self._own[sequence] = 0
        return sequence

    def fork(self, sequence: int, length: int) -> int:
        """A new sequence that shares the first `length` positions of another; copies nothing."""
        fork = self.open()
        self._lib.llama_memory_seq_cp(self._memory, sequence, fork, 0, length)
        self._own[fork] = length
        return fork

    def drop(self, sequence: int) -> None:
        """Give a sequence back; its cells stay taken until all are."""
        self._lib.llama_memory_seq_cp(self._memory, sequence, _HELD, self._own.pop(sequence), -1)
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        self._free.append(sequence)

    def decode(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Feed any number of rows; the logits [outputs, vocabulary] of those that want them.

        Raises `CacheFullError`, before anything is fed, where they are more than there is `room`, and
        `DecodeError` where llama.cpp gives up: nothing that is in the context can be relied on then.
        """
        if len(rows) > self.room:
            raise CacheFullError("the model's cache is full; ask for a larger context or fewer branches")
        parts = [self._decode(part) for part in _parts(rows, self._batch)]
        return np.concatenate(parts) if parts else np.empty((0, self._vocabulary), np.float32)

    def _decode(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        self._used += len(rows)
        wanted = [index for index, row in enumerate(rows) if row.output]
        lone = len(rows) == 1
        count = self._fill([*rows, Row(rows[0].token, 0, _SPARE, rows[0].output)] if lone else rows)
        if len(wanted) == 1:
            self._outputs[0 if wanted[0] else 1] = 1
        code = self._lib.llama_decode(self._handle, self._raw)
        if code != 0:
            raise DecodeError(f"llama.cpp gave up on a batch (code {code}); load the model again")
        if lone:
            self._lib.llama_memory_seq_rm(self._memory, _SPARE, -1, -1)
        if not wanted:
            return np.empty((0, self._vocabulary), np.float32)
        computed = np.flatnonzero(self._outputs[:count])
        pointer: Any = self._lib.llama_get_logits(self._handle)
        logits = np.ctypeslib.as_array(pointer, shape=(len(computed), self._vocabulary))
        return logits[np.searchsorted(computed, wanted)]  # a copy: the next call overwrites the original

    def _fill(self, rows: Sequence[Row]) -> int:
        count: int = len(rows)
        self._raw.n_tokens = count
        self._tokens[:count] = [row.token for row in rows]
        self._positions[:count] = [row.position for row in rows]
        self._outputs[:count] = [row.output for row in rows]
        for cell, row in zip(self._sequences, rows, strict=False):
            cell[0] = row.sequence
        return count


def _parts(rows: Sequence[Row], size: int) -> list[Sequence[Row]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
