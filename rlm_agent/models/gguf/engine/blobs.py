"""Cells in ordinary memory: copied out of sequences of a context, and back into them."""

import ctypes
from collections.abc import Iterator
from typing import Any, Final

from rlm_agent.models.gguf.engine.nodes import Blob
from rlm_agent.models.gguf.file import binding
from rlm_agent.structure.errors import DecodeError


class Blobs:
    """Copies the cells of a context; `passing` is a sequence that holds nothing else, for their way.

    Of layers with a sliding window, llama.cpp copies what a sequence's next token can look at, and no more.
    So a blob has a part for each stretch of so many positions: who goes on amid it needs what lies before.
    """

    def __init__(self, handle: Any, passing: int) -> None:
        lib = self._lib = binding()
        self._handle = handle
        self._memory = lib.llama_get_memory(handle)
        self._passing = passing
        self.window: Final[int] = lib.llama_model_n_swa(lib.llama_get_model(handle))

    def save(self, sequence: int, start: int, end: int) -> Blob:
        """What a sequence holds of the positions from `start` to before `end`."""
        parts = tuple(self._part(sequence, *span) for span in self._spans(start, end))
        return Blob(start, end, parts)

    def load(self, part: Any, sequence: int) -> None:
        """Let an empty sequence hold a part of a blob, in the first cells that are free."""
        if not self._lib.llama_state_seq_set_data(self._handle, part, len(part), sequence):
            raise DecodeError("llama.cpp could not move its cache; load the model again")

    def _spans(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        step = self.window or end
        while start < end:
            stop = min(end, start - start % step + step)
            yield start, stop
            start = stop

    def _part(self, sequence: int, start: int, end: int) -> Any:
        lib, memory, passing = self._lib, self._memory, self._passing
        lib.llama_memory_seq_cp(memory, sequence, passing, start, end)
        size = lib.llama_state_seq_get_size(self._handle, passing)
        data = (ctypes.c_uint8 * size)()
        lib.llama_state_seq_get_data(self._handle, data, size, passing)
        lib.llama_memory_seq_rm(memory, passing, -1, -1)
        return data
