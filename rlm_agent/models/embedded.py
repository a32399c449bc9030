"""Models that ship with the package."""

from importlib.resources import files
from pathlib import Path

EMBEDDED = {"mini": "weights/mini.gguf", "mini-tools": "weights/mini-tools.gguf"}
"""Their names, and where their files lie in it."""


def model_file(name: str | Path) -> Path:
    """The file of an embedded model, or else the one at this path."""
    if isinstance(name, str) and name in EMBEDDED:
        return Path(str(files("rlm_agent.models") / EMBEDDED[name]))
    return Path(name).expanduser()
