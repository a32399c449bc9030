"""Files of models by name, each loaded once per process and shared."""

import os
import threading
from pathlib import Path

from rlm_agent.models.embedded import EMBEDDED, model_file
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.structure.errors import ModelFileError, UnknownNameError

_loaded: dict[tuple[Path, int, int], GGUFPolicy] = {}
_lock = threading.Lock()


def load_file(model: str) -> GGUFPolicy:
    """The policy of a file that `model` names: one that ships with the package, or the path of a `.gguf`.

    Raises `UnknownNameError` for a name that is none, `ModelFileError` for a file that cannot be loaded, and
    `MissingExtraError` without llama-cpp-python.
    """
    path = path_of(model)
    with _lock:
        key = (path, _written(path), os.getpid())  # what was loaded before a fork is of no use after it
        if key not in _loaded:
            _loaded[key] = GGUFPolicy(path)
        return _loaded[key]


def path_of(model: str) -> Path:
    """Where the file lies that `model` names; raises what `load_file` raises for a name."""
    if model in EMBEDDED or model.endswith(".gguf"):
        try:
            return model_file(model).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelFileError(f"{model!r} is no path ({error}); name an existing .gguf file") from error
    raise UnknownNameError(
        f"there is no model {model!r}; use {', '.join(EMBEDDED)}, the path of a .gguf file, the URL of a "
        "server, or 'provider:model' for a chat model of LangChain"
    )


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # whoever opens it says why it cannot be read
