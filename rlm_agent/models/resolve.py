"""A model is named by one string everywhere: `mini`, a path to a `.gguf`, or it is an object already."""

import os
import threading
from importlib.resources import files
from pathlib import Path

from rlm_agent.models.protocols import Policy
from rlm_agent.structure.errors import ModelFileError, UnknownNameError

EMBEDDED = {"mini": "weights/mini.gguf"}
"""Models that ship with the package, and where their files lie in it."""

_loaded: dict[tuple[Path, int, int], Policy] = {}
_lock = threading.Lock()


def load_policy(model: str | Path | Policy) -> Policy:
    """The policy that `model` names; a file is loaded once per process and shared.

    Raises `UnknownNameError` for a name that is none, `ModelFileError` for a file that cannot be loaded,
    `MissingExtraError` without llama-cpp-python.
    """
    if not isinstance(model, str | Path):
        if isinstance(model, Policy):
            return model
        raise UnknownNameError(f"{type(model).__name__} is no policy; give a name, a path or a Policy")
    with _lock:
        return _load(_path(str(model)))


def _path(model: str) -> Path:
    if model in EMBEDDED:
        return Path(str(files("rlm_agent.models") / EMBEDDED[model]))
    if "://" in model:
        raise UnknownNameError(f"{model!r} is a URL, which this version cannot use; name a .gguf file")
    if model.endswith(".gguf"):
        try:
            return Path(model).expanduser().resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelFileError(f"{model!r} is no path ({error}); name an existing .gguf file") from error
    raise UnknownNameError(
        f"there is no model {model!r}; use {', '.join(EMBEDDED)} or the path of a .gguf file"
    )


def _load(path: Path) -> Policy:
    from rlm_agent.models.gguf.policy import GGUFPolicy

    key = (path, _written(path), os.getpid())  # what was loaded before a fork is of no use after it
    if key not in _loaded:
        _loaded[key] = GGUFPolicy(path)
    return _loaded[key]


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # whoever opens it says why it cannot be read
