"""What llama.cpp does not survive, looked for in a file's metadata before llama.cpp sees it.

A file that is truncated or garbled llama.cpp refuses by itself. A few values, found by damaging files at
random, fail an assertion there instead, which ends the process.
"""

import math
import mmap
import struct
from pathlib import Path
from typing import Any

from rlm_agent.structure.errors import ModelFileError

Scalar = int | float | bool | bytes

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_TOKENS = "tokenizer.ggml.tokens"
_MOST_LAYERS = 512


def check_metadata(path: Path) -> None:
    """`ModelFileError` for a file whose metadata would end the process."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = _Reader(data)
            scalars, tokens = reader.metadata()
    except (OSError, ValueError, struct.error):
        return  # llama.cpp itself refuses what cannot be read
    if (fault := _fault(scalars, tokens)) is not None:
        raise ModelFileError(f"{path} is damaged: {fault}; download or export it again")


def _fault(scalars: dict[str, Scalar], tokens: list[bytes]) -> str | None:
    for key, value in scalars.items():
        if isinstance(value, bytes):
            continue
        layers, epsilon = key.endswith(".block_count"), key.endswith("_epsilon")
        if (layers and not 0 < value <= _MOST_LAYERS) or (epsilon and not 0 <= value < math.inf):
            return f"{key} is {value!r}"
    named = [token for token in tokens if token]
    return "two tokens have one text" if len(set(named)) < len(named) else None


class _Reader:
    """Reads a GGUF of version 2 or 3 from its beginning; `ValueError` or `struct.error` past its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def metadata(self) -> tuple[dict[str, Scalar], list[bytes]]:
        """All values but arrays, by key, and the texts of the tokens."""
        _, _, _, count = self._take("<4sIQQ")
        scalars: dict[str, Scalar] = {}
        tokens: list[bytes] = []
        for _ in range(count):
            key, kind = self._string().decode(), self._take("<I")[0]
            if kind == _ARRAY:
                strings = self._array()
                tokens = strings if key == _TOKENS else tokens
            else:
                scalars[key] = self._string() if kind == _STRING else self._take(_format(kind))[0]
        return scalars, tokens

    def _array(self) -> list[bytes]:
        """The strings of an array of strings; an array of anything else is passed over."""
        kind, count = self._take("<IQ")
        if kind == _STRING:
            return [self._string() for _ in range(count)]
        self._skip(count * struct.calcsize(_format(kind)))
        return []

    def _string(self) -> bytes:
        (length,) = self._take("<Q")
        start = self._at
        self._skip(length)
        return self._data[start : self._at]

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return values

    def _skip(self, length: int) -> None:
        self._at += length
        if self._at > len(self._data):
            raise ValueError("the file ends within its metadata")


def _format(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"there is no type {kind}")
    return _SCALARS[kind]
