"""`llama_decode` alone, at the sizes of batches and of the cache that a tree needs: no engine is faster."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlm_agent.bench.contenders.base import Setting
from rlm_agent.bench.workload import CHILDREN, LENGTH, Tokens, Tree
from rlm_agent.models.gguf.engine.cells import MAX_SEQUENCES
from rlm_agent.models.gguf.engine.context import Context
from rlm_agent.models.gguf.engine.tuning import tuned_context
from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.structure.errors import DecodeError, InputError

MOST_EXPANSIONS = (MAX_SEQUENCES - CHILDREN) // (CHILDREN - 1)
"""Each adds three leaves, and llama.cpp holds so many sequences."""


@dataclass(slots=True)
class BareContender:
    """Forks are tagged and batches decoded; what comes out is neither read nor drawn from.

    Each leaf's last token is fed once, for its four children together, and then one row a branch, 15 times.
    The context is the one that our engine makes for itself: same kernel, same batches, same threads.
    """

    setting: Setting
    exact: bool = True
    name: str = "bare"
    about: str = field(default="", init=False)
    _file: ModelFile = field(init=False, repr=False)
    _context: Context = field(init=False, repr=False)
    _rows: "_Rows" = field(init=False, repr=False)

    def open(self) -> None:
        """Load the model."""
        setting = self.setting
        self._file = ModelFile(setting.path, repacked=not self.exact)
        self._context, settings = tuned_context(
            self._file, cells=setting.cells, threads=setting.threads, exact=self.exact
        )
        self.about = f"{settings.identity}, {settings.threads} threads"
        self._rows = _Rows(self._context.handle, settings.batch)

    def play(self, trees: Sequence[Tree]) -> list[list[Tokens]]:
        """See `Contender`; `InputError` for a tree of more than `MOST_EXPANSIONS`."""
        return [self._play(tree) for tree in trees]

    def forget(self) -> None:
        """Empty the cache."""
        self._context.cells.clear()

    def close(self) -> None:
        """Free the model."""
        self._rows.close()
        self._context.close()
        self._file.close()

    def _play(self, tree: Tree) -> list[Tokens]:
        if tree.expansions > MOST_EXPANSIONS:
            raise InputError(f"{tree.expansions} expansions are too many; give at most {MOST_EXPANSIONS}")
        self._context.cells.clear()
        rows, token, free = self._rows, tree.prompt[0], list(range(MAX_SEQUENCES))
        sequences, lengths = [free.pop()], [len(tree.prompt)]
        rows.prefill(token, sequences[0], len(tree.prompt) - 1)
        for wave in tree.waves:
            rows.decode(token, [sequences[node] for node in wave], [lengths[node] - 1 for node in wave])
            first = len(sequences)
            for node in wave:
                sequences += rows.replace(sequences[node], free)
                lengths += [lengths[node] + LENGTH] * CHILDREN
            rows.decode(token, sequences[first:], [n - LENGTH for n in lengths[first:]], steps=LENGTH - 1)
        return [(token,) * LENGTH] * (len(sequences) - 1)


class _Rows:
    """A batch, filled once for as many steps as it is decoded."""

    def __init__(self, handle: Any, size: int) -> None:
        lib = self._lib = binding()
        self._handle, self._memory, self._size = handle, lib.llama_get_memory(handle), size
        raw = self._raw = lib.llama_batch_init(max(size, MAX_SEQUENCES), 0, 1)
        as_array, shape = np.ctypeslib.as_array, (max(size, MAX_SEQUENCES),)
        self._tokens = as_array(raw.token, shape=shape)
        self._positions = as_array(raw.pos, shape=shape)
        self._outputs = as_array(raw.logits, shape=shape)
        as_array(raw.n_seq_id, shape=shape)[:] = 1

    def close(self) -> None:
        self._lib.llama_batch_free(self._raw)

    def prefill(self, token: int, sequence: int, length: int) -> None:
        """Feed a prompt of `length` tokens, in batches, without outputs."""
        for start in range(0, length, self._size):
            positions = range(start, min(length, start + self._size))
            self._fill(token, [sequence] * len(positions), positions, output=False)
            self._run()

    def decode(self, token: int, sequences: Sequence[int], starts: Sequence[int], steps: int = 1) -> None:
        """Feed a row a sequence, from the positions `starts` on, so many steps."""
        self._fill(token, sequences, starts, output=True)
        for _ in range(steps):
            self._run()
            self._positions[: len(starts)] += 1

    def replace(self, sequence: int, free: list[int]) -> list[int]:
        """Fork a sequence for its children, which are taken from `free`, and give it back."""
        forks = [free.pop() for _ in range(CHILDREN)]
        for fork in forks:
            self._lib.llama_memory_seq_cp(self._memory, sequence, fork, 0, -1)
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        free.append(sequence)
        return forks

    def _fill(self, token: int, sequences: Sequence[int], positions: Iterable[int], *, output: bool) -> None:
        count = self._raw.n_tokens = len(sequences)
        self._tokens[:count] = token
        self._positions[:count] = list(positions)
        self._outputs[:count] = output
        for row, sequence in enumerate(sequences):
            self._raw.seq_id[row][0] = sequence

    def _run(self) -> None:
        if code := self._lib.llama_decode(self._handle, self._raw):
            raise DecodeError(f"llama.cpp gave up on a batch (code {code}); ask for a smaller tree")
        # Computing may still go on: llama.cpp waits where the first output is asked for.
        self._lib.llama_synchronize(self._handle)
