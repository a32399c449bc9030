"""LoRA adapters: several of them over one base model, one in force at a time."""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlm_agent.models.gguf.engine.context import Context
from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.structure.errors import ModelFileError


class Adapters:
    """The adapters of a context, by name; None stands for the base model alone.

    Raises `ModelFileError` for a file that is no adapter of this model.
    """

    def __init__(self, file: ModelFile, context: Context, paths: Mapping[str, str | Path]) -> None:
        self._lib = binding()
        self._context = context
        self._loaded = {name: self._load(file, Path(path)) for name, path in paths.items()}
        self.current: str | None = None

    def __contains__(self, adapter: str | None) -> bool:
        return adapter is None or adapter in self._loaded

    def _load(self, file: ModelFile, path: Path) -> Any:
        if not path.is_file():
            raise ModelFileError(f"{path} cannot be opened; name an existing LoRA adapter in GGUF")
        adapter = self._lib.llama_adapter_lora_init(file.handle, str(path).encode())
        if not adapter:
            raise ModelFileError(f"{path} is no LoRA adapter for {file.path}; export it for this model")
        return adapter

    def use(self, adapter: str | None) -> None:
        """Put an adapter in force for all that is computed from now on."""
        chosen = [] if adapter is None else [self._loaded[adapter]]
        handles = (self._lib.llama_adapter_lora_p_ctypes * len(chosen))(*chosen)
        scales = (ctypes.c_float * len(chosen))(*(1.0 for _ in chosen))
        self._lib.llama_set_adapters_lora(self._context.handle, handles, len(chosen), scales)
        self.current = adapter
