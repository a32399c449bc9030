"""Value heads: small MLPs over a model's hidden states, kept in the metadata of a GGUF.

    rlm.value.count             how many MLPs; several are an ensemble
    rlm.value.activation        between the layers: silu, relu or tanh; behind the last one stands a sigmoid
    rlm.value.position          whose hidden state is read, behind the output norm: "step_end"
    rlm.value.M.layers          how many linear layers the MLP M has, 1 to 3
    rlm.value.M.L.shape         [outputs, inputs] of layer L
    rlm.value.M.L.weight, bias  float32, row by row
    rlm.value.model             in a file of its own: `ModelFile.identity` of the model it was made for

The first output of an MLP is the value.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.metadata import Metadata, read_metadata
from rlm_agent.models.gguf.values.mlp import MOST_LAYERS, MOST_MEMBERS, HeadWeights, Layer, Vector, forward
from rlm_agent.structure.errors import ModelFileError

PREFIX = "rlm.value."
POSITION = "step_end"


@dataclass(frozen=True, eq=False)
class ValueHead:
    """A head that can be applied; `model` is the identity of the model it is bound to, if it is.

    The weights must be without `fault`.
    """

    weights: HeadWeights
    model: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The head in a GGUF's metadata, None where there is none.

        Raises `ModelFileError` where the file cannot be read or its head is damaged.
        """
        try:
            metadata = read_metadata(path, arrays=PREFIX)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ModelFileError(f"{path} cannot be read ({reason}); name an existing .gguf file") from error
        if f"{PREFIX}count" not in metadata.scalars:
            return None
        try:
            return cls(_weights(metadata), _bound_to(metadata))
        except ValueError as error:
            raise ModelFileError(
                f"{path} has a damaged value head: {error}; download or export it again"
            ) from error

    def apply(self, hidden: NDArray[np.float32]) -> Vector:
        """Hidden states [n, width] to values [n] in [0, 1], the mean over the members.

        A value depends on its own row alone, to the bit.
        """
        return np.array([_mean(row) for row in self.probabilities(hidden)[:, :, 0]])

    def spread(self, hidden: NDArray[np.float32]) -> Vector:
        """The standard deviation of the members' values, [n]; 0 for a single MLP."""
        rows = self.probabilities(hidden)[:, :, 0]
        return np.array([math.sqrt(_mean((row - _mean(row)) ** 2)) for row in rows])

    def probabilities(self, hidden: NDArray[np.float32]) -> Vector:
        """What each member says of each row, [n, members, outputs]."""
        rows = hidden.astype(np.float64)
        return np.stack([forward(member, self.weights.activation, rows) for member in self._exact], axis=1)

    @cached_property
    def _exact(self) -> list[list[tuple[Vector, NDArray[np.float32]]]]:
        """The members in double precision; to make it anew for each look would take longer than the rest."""
        return [
            [(weight.astype(np.float64), bias) for weight, bias in member] for member in self.weights.members
        ]

    @property
    def identity(self) -> str:
        """A fingerprint of what the head computes."""
        digest = hashlib.sha256(f"{POSITION}/{self.weights.activation}".encode())
        for member in self.weights.members:
            digest.update(b"member")
            for weight, bias in member:
                digest.update(f"{weight.shape}".encode() + weight.tobytes() + bias.tobytes())
        return digest.hexdigest()[:16]


def _mean(numbers: Vector) -> float:
    return math.fsum(numbers) / len(numbers)


def _weights(metadata: Metadata) -> HeadWeights:
    """Raises `ValueError` for what is missing or does not fit."""
    if (position := _text(metadata, "position")) != POSITION:
        raise ValueError(f"it is read at {position!r}, which this version does not know")
    members = tuple(
        tuple(
            _layer(metadata, f"{number}.{layer}")
            for layer in range(_number(metadata, f"{number}.layers", MOST_LAYERS))
        )
        for number in range(_number(metadata, "count", MOST_MEMBERS))
    )
    weights = HeadWeights(members, _text(metadata, "activation"))
    if (fault := weights.fault()) is not None:
        raise ValueError(fault)
    return weights


def _layer(metadata: Metadata, name: str) -> Layer:
    shape, weight, bias = (_array(metadata, f"{name}.{part}") for part in ("shape", "weight", "bias"))
    if shape.shape != (2,) or shape.dtype.kind not in "iu" or (shape < 1).any():
        raise ValueError(f"{PREFIX}{name}.shape is no shape")
    outputs, inputs = (int(size) for size in shape)
    if weight.dtype != np.float32 or bias.dtype != np.float32 or weight.size != outputs * inputs:
        raise ValueError(f"{PREFIX}{name}.weight is not {outputs} × {inputs} numbers in single precision")
    return weight.reshape(outputs, inputs), bias


def _array(metadata: Metadata, name: str) -> NDArray[Any]:
    if (array := metadata.arrays.get(PREFIX + name)) is None:
        raise ValueError(f"{PREFIX}{name} is missing")
    return array


def _number(metadata: Metadata, name: str, most: int) -> int:
    number = metadata.scalars.get(PREFIX + name)
    if not isinstance(number, int) or not 1 <= number <= most:
        raise ValueError(f"{PREFIX}{name} is {number!r}, not 1 to {most}")
    return number


def _text(metadata: Metadata, name: str) -> str:
    text = metadata.scalars.get(PREFIX + name)
    if not isinstance(text, bytes):
        raise ValueError(f"{PREFIX}{name} is no text")
    return text.decode(errors="replace")


def _bound_to(metadata: Metadata) -> str | None:
    return _text(metadata, "model") if f"{PREFIX}model" in metadata.scalars else None
