"""Our engine under a search that values each step: the head is read where a step ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rlm_agent.bench.contenders.engine import EngineContender
from rlm_agent.bench.workload import Branch, Tokens
from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.gguf.values.heads import ValueHead
from rlm_agent.models.gguf.values.mlp import HeadWeights, Layer
from rlm_agent.models.gguf.values.readings import HeadReading
from rlm_agent.models.gguf.values.values import own_head
from rlm_agent.structure.errors import DecodeError

_MEMBERS, _INNER = 4, 256  # as in the heads that are trained for `mini`: width, 256, 256, 1


@dataclass(slots=True)
class ValueContender(EngineContender):
    """After each wave all its steps are scored in one call, as `HeadValue` scores those of a search.

    The head is the model's own, or else one of random weights.
    """

    _reading: HeadReading = field(init=False, repr=False)

    def open(self) -> None:
        """Load the model and its head."""
        EngineContender.open(self)
        head = own_head(self._engine.file) or random_head(self._engine.file)
        self._reading = HeadReading(head)
        members = head.weights.members
        self.about += f", {len(members)} MLPs of {sum(w.size for m in members for w, _ in m):,} weights"

    def _complete(self, branches: Sequence[Branch]) -> list[Tokens]:
        written = EngineContender._complete(self, branches)
        looks = [
            Job(branch.prompt + text, max_tokens=0, hidden=True)
            for branch, text in zip(branches, written, strict=True)
        ]
        values = self._reading(self._engine.complete(looks))
        if not all(0 <= value <= 1 for value in values):
            raise DecodeError(f"{self.name} read values that are no numbers; its time tells nothing")
        return written


def random_head(file: ModelFile) -> ValueHead:
    """Four MLPs of two hidden layers of 256, for a model without a head."""
    draw = np.random.default_rng(0)

    def layer(inputs: int, outputs: int) -> Layer:
        weight = draw.normal(scale=inputs**-0.5, size=(outputs, inputs))
        return weight.astype(np.float32), np.zeros(outputs, np.float32)

    sizes = (file.width, _INNER, _INNER, 1)
    members = tuple(tuple(map(layer, sizes, sizes[1:])) for _ in range(_MEMBERS))
    return ValueHead(HeadWeights(members))
