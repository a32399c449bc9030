"""Writing value heads: into a model's GGUF, or into a small file beside a big model.

The keys are listed in `rlm_agent.models.gguf.values.heads`, which reads them.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

from rlm_agent.models.gguf.values.heads import POSITION, PREFIX
from rlm_agent.models.gguf.values.mlp import HeadWeights, Layer
from rlm_agent.models.gguf.writing import gguf_writer
from rlm_agent.structure.errors import InputError

ARCHITECTURE = "rlm-value"
"""Of a file that holds a head and nothing else."""


def weights_of(states: Sequence[Mapping[str, torch.Tensor]], activation: str = "silu") -> HeadWeights:
    """A head from the `state_dict()` of one `nn.Sequential` of `nn.Linear`s a member, in their order.

    What stands between the linear layers has no weights and is named by `activation`; the sigmoid behind
    the last is not among them. Raises `InputError` where the layers do not fit.
    """
    weights = HeadWeights(tuple(_layers(state) for state in states), activation)
    require_sound(weights)
    return weights


def evenly(*heads: HeadWeights) -> HeadWeights:
    """One ensemble in which each of some heads has the same say, however many members it has.

    Raises `InputError` where they read different hidden states or have other activations.
    """
    votes = math.lcm(*(len(head.members) for head in heads))
    members = tuple(
        member for head in heads for member in head.members for _ in range(votes // len(head.members))
    )
    if len({head.activation for head in heads}) > 1:
        raise InputError("the value heads have different activations; train them alike")
    weights = HeadWeights(members, heads[0].activation)
    require_sound(weights)
    return weights


def require_sound(weights: HeadWeights) -> None:
    """`InputError` for weights that no reader would accept."""
    if (fault := weights.fault()) is not None:
        raise InputError(f"this value head cannot be stored: {fault}; train it again")


def require_fitting(weights: HeadWeights, width: int) -> None:
    """`InputError` for weights that are not sound, or read hidden states of another width."""
    require_sound(weights)
    if weights.width != width:
        raise InputError(
            f"the value head reads {weights.width} numbers and the model's hidden states have {width}; "
            "export the head that was trained on this model"
        )


def add_head(writer: gguf.GGUFWriter, weights: HeadWeights) -> None:
    """Add a head to the metadata of a file that is being written; see `require_sound`."""
    require_sound(weights)
    writer.add_uint32(f"{PREFIX}count", len(weights.members))
    writer.add_string(f"{PREFIX}activation", weights.activation)
    writer.add_string(f"{PREFIX}position", POSITION)
    for number, member in enumerate(weights.members):
        writer.add_uint32(f"{PREFIX}{number}.layers", len(member))
        for index, (weight, bias) in enumerate(member):
            name = f"{PREFIX}{number}.{index}"
            writer.add_array(f"{name}.shape", list(weight.shape))
            writer.add_array(f"{name}.weight", weight.ravel().tolist())
            writer.add_array(f"{name}.bias", bias.tolist())


def write_head_file(path: Path, weights: HeadWeights, model_identity: str) -> None:
    """Write a head to a file of its own, which is replaced whole or not at all.

    `model_identity` is `ModelFile.identity` of the model on whose hidden states it was trained; with another
    one the head is refused.
    """
    require_sound(weights)
    with gguf_writer(path, ARCHITECTURE) as writer:
        writer.add_string(f"{PREFIX}model", model_identity)
        add_head(writer, weights)


def _layers(state: Mapping[str, torch.Tensor]) -> tuple[Layer, ...]:
    places = sorted(int(name.partition(".")[0]) for name in state if name.endswith(".weight"))
    return tuple((_plain(state[f"{place}.weight"]), _plain(state[f"{place}.bias"])) for place in places)


def _plain(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).numpy()
    return array
