"""A GGUF's metadata, read without llama.cpp. Nothing in the file is trusted: each length is checked."""

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
_MAGIC, _VERSIONS = b"GGUF", (2, 3)


@dataclass(frozen=True, slots=True)
class Metadata:
    """`scalars` are all values but arrays by key, texts as bytes; `arrays` the numeric ones asked for, [n].

    `tokens` are the texts of the vocabulary.
    """

    scalars: dict[str, Scalar] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    tokens: list[bytes] = field(default_factory=list)


def read_metadata(path: Path, *, arrays: str | None = None) -> Metadata:
    """The metadata of a file, with the numeric arrays whose keys begin with `arrays`.

    Raises `OSError` where the file cannot be opened, `ValueError` where it cannot be read as a GGUF.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Reader(data, arrays).metadata()
        except struct.error as error:
            raise ValueError("the file ends within its metadata") from error


class _Reader:
    """Reads a GGUF of version 2 or 3 from its beginning; `ValueError` or `struct.error` past its end."""

    def __init__(self, data: mmap.mmap, wanted: str | None) -> None:
        self._data = data
        self._wanted = wanted
        self._at = 0

    def metadata(self) -> Metadata:
        magic, version, _, count = self._take("<4sIQQ")
        if magic != _MAGIC or version not in _VERSIONS:
            raise ValueError("it is no GGUF of version 2 or 3")
        read = Metadata()
        for _ in range(count):
            key, kind = self._string().decode(errors="replace"), self._take("<I")[0]
            if kind == _ARRAY:
                self._array(key, read)
            else:
                read.scalars[key] = self._string() if kind == _STRING else self._take(_format(kind))[0]
        return read

    def _array(self, key: str, read: Metadata) -> None:
        """Keep the array of a key where it is wanted, pass over it otherwise."""
        kind, count = self._take("<IQ")
        if kind == _STRING:
            self._strings(count, read.tokens if key == _TOKENS else None)
            return
        form = _format(kind)
        start = self._at
        self._skip(count * struct.calcsize(form))
        if self._wanted is not None and key.startswith(self._wanted):
            read.arrays[key] = np.frombuffer(self._data[start : self._at], dtype=form)  # a copy

    def _strings(self, count: int, kept: list[bytes] | None) -> None:
        for _ in range(count):
            text = self._string()
            if kept is not None:
                kept.append(text)

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
