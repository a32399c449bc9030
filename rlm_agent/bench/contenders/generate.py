"""llama-cpp-python's own loop: one sequence at a time, which begins where it still agrees with the last."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from rlm_agent.bench.contenders.base import Setting
from rlm_agent.bench.workload import LENGTH, Branch, Tokens, Tree, grow
from rlm_agent.models.gguf.file import binding

_UNCUT = {"temp": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


@dataclass(slots=True)
class GenerateContender:
    """`Llama.generate` with the library's defaults, but for the threads where they are given.

    By itself the library takes half of the cores for single tokens and all of them for batches.
    """

    setting: Setting
    name: str = "generate"
    about: str = field(default="", init=False)
    _llama: Any = field(default=None, init=False, repr=False)

    def open(self) -> None:
        """Load the model."""
        binding()  # says what is missing, and keeps llama.cpp quiet
        from llama_cpp import Llama

        threads = self.setting.threads
        self.about = "as it comes" if threads is None else f"{threads} threads"
        self._llama = Llama(
            str(self.setting.path),
            n_ctx=self.setting.longest,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )

    def play(self, trees: Sequence[Tree]) -> list[list[Tokens]]:
        """See `Contender`."""
        return [grow(tree, self._complete) for tree in trees]

    def forget(self) -> None:
        """Empty the cache."""
        self._llama.reset()

    def close(self) -> None:
        """Free the model."""
        self._llama.close()

    def _complete(self, branches: Sequence[Branch]) -> list[Tokens]:
        return [self._continue(branch) for branch in branches]

    def _continue(self, branch: Branch) -> Tokens:
        self._llama.set_seed(branch.seed)
        return tuple(islice(self._llama.generate(branch.prompt, **_UNCUT), LENGTH))
