"""llama.cpp's context: sequences over one unified cache, decoded many at a time.

With a unified cache a fork only tags cells, so that it is free and a shared prefix is stored once.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.structure.errors import DecodeError

MAX_SEQUENCES = 256
"""llama.cpp's own limit."""


@dataclass(frozen=True, slots=True)
class Row:
    """One token to feed: at which position, to which sequence, and whether its logits are wanted."""

    token: int
    position: int
    sequence: int
    output: bool


class CacheFullError(DecodeError):
    """No cell is free for a batch; free sequences and try again."""


class Context:
    """A context of `cells` cache cells; not safe for use by several threads at once."""

    def __init__(
        self, file: ModelFile, *, cells: int, batch: int, threads: int, flash_attention: bool
    ) -> None:
        lib = self._lib = binding()
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = cells, batch, batch
        params.n_seq_max, params.kv_unified = MAX_SEQUENCES, True
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
        self._free = list(range(MAX_SEQUENCES - 1, -1, -1))
        self.batch = batch
        self._allocate(batch)

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

    @property
    def available(self) -> int:
        """How many sequences can still be opened."""
        return len(self._free)

    def open(self) -> int:
        """A fresh, empty sequence."""
        return self._free.pop()

    def fork(self, sequence: int, length: int) -> int:
        """A new sequence that shares the first `length` positions of another; copies nothing."""
        fork = self.open()
        self._lib.llama_memory_seq_cp(self._memory, sequence, fork, 0, length)
        return fork

    def drop(self, sequence: int) -> None:
        """Give a sequence back; cells that no other one shares become free."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        self._free.append(sequence)

    def truncate(self, sequence: int, length: int) -> None:
        """Forget what a sequence holds from position `length` on."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def decode(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Feed rows, at most `batch` of them; the logits [outputs, vocabulary] of those that want them.

        Raises `CacheFullError` where no cell is free and `DecodeError` where llama.cpp gives up or where
        this process is a fork of the one that made the context. The array is valid until the next call.
        """
        if os.getpid() != self._pid:
            raise DecodeError("this model was loaded before a fork; load it again in the new process")
        count = self._raw.n_tokens = len(rows)
        self._tokens[:count] = [row.token for row in rows]
        self._positions[:count] = [row.position for row in rows]
        self._outputs[:count] = [row.output for row in rows]
        for cell, row in zip(self._sequences, rows, strict=False):
            cell[0] = row.sequence
        self._check(self._lib.llama_decode(self._handle, self._raw))
        outputs = int(self._outputs[:count].sum())
        pointer: Any = self._lib.llama_get_logits(self._handle)
        return np.ctypeslib.as_array(pointer, shape=(outputs, self._vocabulary))

    def _check(self, code: int) -> None:
        if code == 1:
            raise CacheFullError("the model's cache is full; ask for a larger context or fewer branches")
        if code != 0:
            raise DecodeError(f"llama.cpp gave up on a batch (code {code}); load the model again")

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[list[int]]:
        """A list for sequences in use: whatever is still in it at the end, error or not, is dropped."""
        sequences: list[int] = []
        try:
            yield sequences
        finally:
            for sequence in sequences:
                self.drop(sequence)
