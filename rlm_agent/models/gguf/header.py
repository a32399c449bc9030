"""What llama.cpp does not survive, looked for in a file's metadata before llama.cpp sees it.

A file that is truncated or garbled llama.cpp refuses by itself. A few values, found by damaging files at
random, fail an assertion there instead, which ends the process.
"""

import math
from pathlib import Path

from rlm_agent.models.gguf.metadata import Scalar, read_metadata
from rlm_agent.structure.errors import ModelFileError

_MOST_LAYERS = 512


def check_metadata(path: Path) -> None:
    """`ModelFileError` for a file whose metadata would end the process."""
    try:
        metadata = read_metadata(path)
    except (OSError, ValueError):
        return  # llama.cpp itself refuses what cannot be read
    if (fault := _fault(metadata.scalars, metadata.tokens)) is not None:
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
