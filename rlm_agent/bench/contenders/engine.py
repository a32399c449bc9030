"""Our own engine, by itself, under several searches at once, and beside a busy process."""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rlm_agent.bench.contenders.base import Setting
from rlm_agent.bench.workload import LENGTH, Branch, Tokens, Tree, grow
from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.structure.errors import DecodeError

if TYPE_CHECKING:
    from rlm_agent.models.gguf.engine.engine import Engine


@dataclass(slots=True)
class EngineContender:
    """A wave is one call; trees are written one after the other."""

    setting: Setting
    exact: bool = True
    name: str = "engine"
    about: str = field(default="", init=False)
    _engine: "Engine" = field(init=False, repr=False)

    def open(self) -> None:
        """Load the model."""
        from rlm_agent.models.gguf.engine.engine import Engine

        setting = self.setting
        self._engine = Engine(setting.path, context=setting.cells, threads=setting.threads, exact=self.exact)
        settings = self._engine.settings
        self.about = f"{settings.identity}, {settings.threads} threads"

    def play(self, trees: Sequence[Tree]) -> list[list[Tokens]]:
        """See `Contender`."""
        return [grow(tree, self._complete) for tree in trees]

    def forget(self) -> None:
        """Empty the cache."""
        self._engine.forget()

    def close(self) -> None:
        """Free the model."""
        self._engine.close()

    def _complete(self, branches: Sequence[Branch]) -> list[Tokens]:
        results = self._engine.complete(
            [Job(branch.prompt, LENGTH, seed=branch.seed, ends=False) for branch in branches]
        )
        for result in results:
            if result.error is not None:
                raise DecodeError(result.error)
        return [result.tokens for result in results]


@dataclass(slots=True)
class TogetherContender(EngineContender):
    """All trees are written at once, each by a thread of its own."""

    def play(self, trees: Sequence[Tree]) -> list[list[Tokens]]:
        """See `Contender`."""
        with ThreadPoolExecutor(len(trees)) as pool:
            return list(pool.map(lambda tree: grow(tree, self._complete), trees))


@dataclass(slots=True)
class BusyContender(EngineContender):
    """Another process keeps one core busy meanwhile."""

    _process: "subprocess.Popen[bytes]" = field(init=False, repr=False)

    def open(self) -> None:
        """Load the model and start the process."""
        EngineContender.open(self)
        self._process = subprocess.Popen([sys.executable, "-c", "while True: pass"])

    def close(self) -> None:
        """Stop the process and free the model."""
        self._process.kill()
        self._process.wait()
        EngineContender.close(self)
