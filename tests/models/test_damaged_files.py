"""Damaged model files end in a sentence: llama.cpp ends the whole process over some of them."""

import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.structure.errors import ModelFileError, RlmError

LOAD = """
import sys
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.structure.errors import RlmError
for path in sys.argv[1:]:
    try:
        GGUFPolicy(path, context=64).close()
    except RlmError:
        pass
"""


def with_value(tiny: Path, tmp_path: Path, key: str, value: bytes) -> Path:
    """A copy in which the scalar under a key has other bytes."""
    data = bytearray(tiny.read_bytes())
    start = data.index(key.encode()) + len(key) + 4
    data[start : start + len(value)] = value
    (damaged := tmp_path / "damaged.gguf").write_bytes(data)
    return damaged


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.block_count", struct.pack("<I", 0)),
        ("llama.block_count", struct.pack("<I", 2**31)),
        ("llama.attention.layer_norm_rms_epsilon", struct.pack("<f", float("nan"))),
        ("llama.attention.layer_norm_rms_epsilon", struct.pack("<f", -1.0)),
    ],
)
def test_a_value_that_would_end_the_process_is_refused(
    tiny: Path, tmp_path: Path, key: str, value: bytes
) -> None:
    damaged = with_value(tiny, tmp_path, key, value)
    with pytest.raises(ModelFileError, match=f"damaged: {key}"):
        GGUFPolicy(damaged)


def test_two_tokens_with_one_text_are_refused(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    start = data.index(b"tokenizer.ggml.tokens")
    token = struct.pack("<Q", 1)
    first = data.index(token, start)
    first = data.index(token, first + 9)
    second = data.index(token, first + 9)
    changed = bytearray(data)
    changed[second + 8] = changed[first + 8]
    (damaged := tmp_path / "twins.gguf").write_bytes(changed)
    with pytest.raises(ModelFileError, match="two tokens have one text"):
        GGUFPolicy(damaged)


def test_random_damage_is_survived(tiny: Path, tmp_path: Path) -> None:
    """In another process, which is to live: flipped bytes, huge and zero sizes, and cuts."""
    data, paths = tiny.read_bytes(), []
    head = data.index(b"token_embd.weight") + 200
    for index in range(150):
        rng = random.Random(index)
        damaged = bytearray(data)
        at = rng.randrange(4, head)
        match index % 3:
            case 0:
                damaged[at] = rng.randrange(256)
            case 1:
                damaged[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), b"\xff\xff\xff\x7f" * 2))
            case _:
                del damaged[rng.randrange(len(data)) :]
        paths.append(tmp_path / f"{index}.gguf")
        paths[-1].write_bytes(damaged)
    words = [sys.executable, "-c", LOAD, *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_weights_that_are_no_numbers_are_told(tiny: Path, tmp_path: Path) -> None:
    data = bytearray(tiny.read_bytes())
    data[-4000:] = struct.pack("<f", float("nan")) * 1000
    (damaged := tmp_path / "nan.gguf").write_bytes(data)
    with pytest.raises(RlmError):
        GGUFPolicy(damaged)
