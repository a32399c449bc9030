"""Value heads: what they compute, and that a damaged or foreign one ends in a sentence."""

import math
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import nn

from rlm_agent.models.gguf.engine.jobs import Result
from rlm_agent.models.gguf.values.heads import PREFIX, ValueHead
from rlm_agent.models.gguf.values.mlp import HeadWeights
from rlm_agent.models.gguf.values.readings import HeadReading
from rlm_agent.structure.errors import InputError, ModelFileError
from rlm_agent.training.heads import weights_of, write_head_file

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU, "tanh": nn.Tanh}


def network(*sizes: int, activation: str = "silu", seed: int = 0) -> nn.Sequential:
    """Linear layers of these widths and what stands between them; the sigmoid is left out."""
    torch.manual_seed(seed)
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        modules += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*modules[:-1])


def rows(count: int, width: int) -> Any:
    return np.random.default_rng(0).normal(scale=3, size=(count, width)).astype(np.float32)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(8, 1), (8, 5, 1), (8, 5, 4, 3)])
def test_a_head_read_back_computes_what_torch_computes(
    tmp_path: Path, activation: str, sizes: tuple[int, ...]
) -> None:
    nets = [network(*sizes, activation=activation, seed=seed) for seed in range(3)]
    write_head_file(tmp_path / "head.gguf", weights_of([n.state_dict() for n in nets], activation), "abc")
    head = ValueHead.read(tmp_path / "head.gguf")
    assert head is not None and head.model == "abc"
    hidden = rows(9, sizes[0])
    with torch.no_grad():
        said = np.stack([net(torch.from_numpy(hidden)).sigmoid().double().numpy() for net in nets], axis=1)
    assert np.abs(head.probabilities(hidden) - said).max() < 1e-6
    assert np.abs(head.apply(hidden) - said[:, :, 0].mean(1)).max() < 1e-6
    assert np.abs(head.spread(hidden) - said[:, :, 0].std(1)).max() < 1e-6


@pytest.mark.parametrize("sizes", [(160, 1), (160, 67, 1), (160, 256, 256, 2)])
@pytest.mark.parametrize("members", [1, 9])
def test_a_row_has_one_value_whoever_stands_beside_it(members: int, sizes: tuple[int, ...]) -> None:
    nets = [network(*sizes, seed=seed).state_dict() for seed in range(members)]
    head, hidden = ValueHead(weights_of(nets)), rows(40, 160)
    alone = [head.apply(row[None])[0] for row in hidden]
    for size in (2, 3, 7, 40):
        for start in range(0, 40, size):
            assert head.apply(hidden[start : start + size]).tolist() == alone[start : start + size]


def test_hidden_states_of_any_size_give_values_between_0_and_1() -> None:
    head = ValueHead(weights_of([network(4, 3, 1).state_dict()]))
    values = head.apply(np.array([[1e30, -1e30, 1e30, 1e30], [0, 0, 0, 0]], dtype=np.float32))
    assert ((values >= 0) & (values <= 1)).all()


def test_looks_that_brought_no_numbers_have_no_value_and_leave_the_others_theirs() -> None:
    head, (first, second) = ValueHead(weights_of([network(4, 3, 1).state_dict()])), rows(2, 4)
    broken = np.array([1, np.inf, 0, np.nan], np.float32)
    looks = [Result(hidden=first), Result(error="too long"), Result(hidden=broken), Result(hidden=second)]
    values = HeadReading(head)(looks)
    assert [math.isnan(value) for value in values] == [False, True, True, False]
    assert [values[0], values[3]] == head.apply(np.stack([first, second])).tolist()
    assert HeadReading(head)([]) == []


def test_identity_tells_heads_apart() -> None:
    states = [network(4, 1, seed=seed).state_dict() for seed in range(2)]
    heads = [weights_of(states), weights_of(states[:1]), weights_of(states[::-1])]
    heads.append(weights_of(states, "relu"))
    assert len({ValueHead(weights).identity for weights in heads}) == 4
    assert ValueHead(weights_of(states)).identity == ValueHead(heads[0]).identity


def test_a_model_without_a_head_has_none(tiny: Path) -> None:
    assert ValueHead.read(tiny) is None


def write(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """A head of 2 inputs and one layer whose keys were changed before writing."""
    keys: dict[str, Any] = {
        "count": 1,
        "activation": "silu",
        "position": "step_end",
        "0.layers": 1,
        "0.0.shape": [1, 2],
        "0.0.weight": [1.0, 2.0],
        "0.0.bias": [0.0],
    }
    change(keys)
    writer = gguf.GGUFWriter(path, "rlm-value")
    for key, value in keys.items():
        kind = gguf.GGUFValueType.ARRAY if isinstance(value, list) else gguf.GGUFValueType.get_type(value)
        writer.add_key_value(PREFIX + key, value, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": 2**31 - 1}, "count is 2147483647"),
        ({"count": 2}, "1.layers is None"),
        ({"0.layers": 4}, "0.layers is 4"),
        ({"activation": "gelu"}, "no activation 'gelu'"),
        ({"activation": 1}, "activation is no text"),
        ({"position": "prompt_end"}, "'prompt_end'"),
        ({"0.0.shape": [2, 2]}, "is not 2 × 2 numbers"),
        ({"0.0.shape": [-1, -2]}, "is no shape"),
        ({"0.0.shape": [2**30, 2**30]}, "numbers in single precision"),
        ({"0.0.shape": [1.0, 2.0]}, "is no shape"),
        ({"0.0.weight": [1, 2]}, "single precision"),
        ({"0.0.weight": [1.0, float("nan")]}, "weights that are no numbers"),
        ({"0.0.bias": [1.0, 2.0]}, "with a bias"),
        ({"0.0.bias": 1.0}, "bias is missing"),
    ],
)
def test_a_damaged_head_is_refused_in_a_sentence(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "head.gguf"
    write(path, lambda keys: keys.update(changes))
    with pytest.raises(ModelFileError, match=f"damaged value head.*{reason}.*export it again$"):
        ValueHead.read(path)


def test_layers_that_do_not_follow_each_other_are_refused(tmp_path: Path) -> None:
    second = {"0.1.shape": [1, 3], "0.1.weight": [1.0] * 3, "0.1.bias": [0.0], "0.layers": 2}
    write(tmp_path / "head.gguf", lambda keys: keys.update(second))
    with pytest.raises(ModelFileError, match="3 inputs behind one of 1 outputs"):
        ValueHead.read(tmp_path / "head.gguf")


def test_a_length_beyond_the_end_of_the_file_is_refused(tmp_path: Path) -> None:
    write(path := tmp_path / "head.gguf", lambda keys: None)
    data = bytearray(path.read_bytes())
    start = data.index(b"0.0.weight") + len("0.0.weight") + 8
    for count in (2**20, 2**62, 2**64 - 1):
        data[start : start + 8] = struct.pack("<Q", count)
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match="cannot be read"):
            ValueHead.read(path)


def test_a_file_cut_off_anywhere_is_refused_or_has_no_head(tmp_path: Path) -> None:
    write(path := tmp_path / "head.gguf", lambda keys: None)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError):
            ValueHead.read(path)


@pytest.mark.parametrize("name", ["missing.gguf", "."])
def test_a_path_that_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="name an existing"):
        ValueHead.read(tmp_path / name)


@pytest.mark.parametrize(
    "nets",
    [
        [],
        [network(4, 3, 3, 3, 1)],
        [network(4, 1), network(5, 1)],
        [nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 1))],
    ],
)
def test_weights_that_no_reader_would_accept_are_not_written(nets: list[nn.Module]) -> None:
    with pytest.raises(InputError, match="cannot be stored"):
        weights_of([net.state_dict() for net in nets])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / "head.gguf").write_bytes(b"old")

    def full_disk(writer: gguf.GGUFWriter) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_kv_data_to_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_head_file(path, weights_of([network(4, 1).state_dict()]), "abc")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_head_without_members_has_a_fault() -> None:
    assert HeadWeights(()).fault() == "it has 0 members, not 1 to 64"
