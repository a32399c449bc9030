"""What llama.cpp complains of while it loads a file: its log tells what its empty handle does not."""

import ctypes
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

_ERROR = 4  # GGML_LOG_LEVEL_ERROR
_MOST = 64

_local = threading.local()
_callbacks: list[Any] = []  # llama.cpp keeps a bare pointer to its log callback

_NO_MEMORY = "there is not enough memory for its weights; free some, or take a smaller model or quantization"
_REASONS = {
    "cannot allocate memory": _NO_MEMORY,
    "unable to allocate": _NO_MEMORY,
    "failed to allocate": _NO_MEMORY,
    "bad_alloc": _NO_MEMORY,
    "unknown model architecture": "this llama.cpp does not know its architecture; install a newer "
    "llama-cpp-python, or take another model",
}
_UNKNOWN = (
    "it is truncated, damaged or of an architecture that this llama.cpp does not know; "
    "download or export it again"
)


def start(lib: ModuleType) -> None:
    """Start llama.cpp, once: nothing of its log is printed, and each thread's errors are kept for it."""
    if not _callbacks:
        _callbacks.append(lib.llama_log_callback(_note))
        lib.llama_log_set(_callbacks[0], ctypes.c_void_p(0))
        lib.llama_backend_init()


def why_not_loaded(load: Callable[[], Any]) -> tuple[Any, str]:
    """What `load` returns, and the reason and the remedy where that is nothing."""
    _local.errors = errors = list[bytes]()
    try:
        handle = load()
    finally:
        _local.errors = None
    said = b" ".join(errors).decode(errors="replace").lower()
    return handle, next((reason for sign, reason in _REASONS.items() if sign in said), _UNKNOWN)


def _note(level: int, text: bytes, data: Any) -> None:
    errors: list[bytes] | None = getattr(_local, "errors", None)
    if errors is not None and level == _ERROR and len(errors) < _MOST:
        errors.append(text)
