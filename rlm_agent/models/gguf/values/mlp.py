"""What a value head computes: small MLPs over a hidden state, each row by itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_LAYERS, MOST_MEMBERS = 3, 64

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weight [outputs, inputs] and bias [outputs]."""

Vector = NDArray[np.float64]


def _sigmoid(x: Vector) -> Vector:
    return 0.5 * (1 + np.tanh(0.5 * x))  # does not overflow


ACTIVATIONS: dict[str, Callable[[Vector], Vector]] = {
    "silu": lambda x: x * _sigmoid(x),
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
}


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """The arrays of a head: `members` are MLPs, each the tuple of its layers."""

    members: tuple[tuple[Layer, ...], ...]
    activation: str = "silu"

    @property
    def width(self) -> int:
        """How many numbers the hidden state has."""
        return int(self.members[0][0][0].shape[1])

    @property
    def outputs(self) -> int:
        """How many numbers come out; the first of them is the value."""
        return int(self.members[0][-1][0].shape[0])

    def fault(self) -> str | None:
        """What is wrong with these arrays; None for a head that can be applied."""
        if self.activation not in ACTIVATIONS:
            return f"there is no activation {self.activation!r}"
        if not 1 <= len(self.members) <= MOST_MEMBERS:
            return f"it has {len(self.members)} members, not 1 to {MOST_MEMBERS}"
        for number, member in enumerate(self.members):
            if (fault := _member_fault(member)) is not None:
                return f"{fault} in member {number}"
        ends = {(member[0][0].shape[1], member[-1][0].shape[0]) for member in self.members}
        return "its members differ in width" if len(ends) > 1 else None


def forward(member: Sequence[tuple[Vector, NDArray[np.float32]]], activation: str, rows: Vector) -> Vector:
    """Hidden states [n, width] through one MLP to probabilities [n, outputs].

    einsum sums each row by itself, in an order that the shapes of the weights decide; a BLAS would take other
    kernels for other numbers of rows.
    """
    activate = ACTIVATIONS[activation]
    *inner, last = member
    for weight, bias in inner:
        rows = activate(np.einsum("oi,ni->no", weight, rows) + bias)
    return _sigmoid(np.einsum("oi,ni->no", last[0], rows) + last[1])


def positive_class(weights: HeadWeights) -> HeadWeights:
    """A head of two classes under a softmax as one of one output under a sigmoid: the second's probability.

    Raises `ValueError` for a head that has not two outputs.
    """
    if weights.outputs != 2:
        raise ValueError(f"a head of {weights.outputs} outputs is none of two classes; give it two")
    members = []
    for *inner, (weight, bias) in weights.members:
        members.append((*inner, (weight[1:] - weight[:1], bias[1:] - bias[:1])))
    return HeadWeights(tuple(members), weights.activation)


def _member_fault(member: tuple[Layer, ...]) -> str | None:
    if not 1 <= len(member) <= MOST_LAYERS:
        return f"{len(member)} layers, not 1 to {MOST_LAYERS},"
    inputs = None
    for weight, bias in member:
        if weight.ndim != 2 or not weight.size or bias.shape != weight.shape[:1]:
            return f"a weight of shape {weight.shape} with a bias of {bias.shape}"
        if inputs not in (None, weight.shape[1]):
            return f"a layer of {weight.shape[1]} inputs behind one of {inputs} outputs"
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            return "weights that are no numbers"
        inputs = weight.shape[0]
    return None
