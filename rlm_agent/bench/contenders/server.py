"""llama.cpp's own server, which xllamacpp brings along, with a number of slots."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rlm_agent.bench.conditions import half_of_memory
from rlm_agent.bench.contenders.base import Setting
from rlm_agent.bench.workload import LENGTH, Branch, Tokens, Tree, grow
from rlm_agent.models.gguf.engine.pace import cores
from rlm_agent.structure.errors import DecodeError, MissingExtraError

_QUIET = 0
_CELLS = 256  # llama.cpp rounds the cells of a slot up to a multiple of this
_REQUEST = {
    "max_tokens": LENGTH,
    "ignore_eos": True,
    "cache_prompt": True,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "return_tokens": True,
    "verbose": True,  # the tokens come back only so
}


@dataclass(slots=True)
class ServerContender:
    """Branches are asked for at once, one thread each, by the handler in the process: no HTTP between.

    All is as it comes but the number of slots, their size, so that each holds the longest branch, the
    threads: all cores where they are not given, which by itself it does not always take, and, on a small
    machine, the memory for prompts that no slot holds any more, which are 8 GiB.
    """

    setting: Setting
    slots: int
    name: str
    about: str = field(default="", init=False)
    _server: Any = field(default=None, init=False, repr=False)
    _pool: ThreadPoolExecutor | None = field(default=None, init=False, repr=False)

    def open(self) -> None:
        """Load the model and start the server."""
        try:
            import xllamacpp
        except ImportError as error:
            raise MissingExtraError("xllamacpp", "bench") from error
        setting, params = self.setting, xllamacpp.CommonParams()
        params.model.path = str(setting.path)
        params.n_parallel = self.slots
        params.n_ctx = self.slots * -(-(setting.longest + 1) // _CELLS) * _CELLS
        params.n_gpu_layers = 0
        threads = setting.threads or cores()
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.cache_ram_mib = min(params.cache_ram_mib, half_of_memory())
        params.verbosity = _QUIET
        params.ui = False
        self.about = f"{params.n_ctx} cells in {self.slots} slots, in-process, {threads} threads"
        self._server = xllamacpp.Server(params)
        # One that is stopped before it has begun to serve hangs for good.
        self._server.handle_completions({"prompt": [0], "max_tokens": 1})

    def play(self, trees: Sequence[Tree]) -> list[list[Tokens]]:
        """See `Contender`."""
        widest = max(branches for tree in trees for branches in tree.widths)
        with ThreadPoolExecutor(widest) as self._pool:
            return [grow(tree, self._complete) for tree in trees]

    def forget(self) -> None:
        """Start again: a server that keeps its cache in memory can be told to forget in no other way."""
        self.close()
        self.open()

    def close(self) -> None:
        """Stop the server and free the model."""
        self._server = None

    def _complete(self, branches: Sequence[Branch]) -> list[Tokens]:
        assert self._pool is not None
        return list(self._pool.map(self._continue, branches))

    def _continue(self, branch: Branch) -> Tokens:
        reply = self._server.handle_completions({**_REQUEST, "prompt": branch.prompt, "seed": branch.seed})
        if "__verbose" not in reply:
            raise DecodeError(f"llama.cpp's server answered {str(reply)[:200]}")
        return tuple(reply["__verbose"]["tokens"])
