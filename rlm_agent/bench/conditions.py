"""Under which conditions was measured."""

import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import rlm_agent
from rlm_agent.models.gguf.engine.pace import cores
from rlm_agent.models.gguf.file import ModelFile, binding


def conditions(file: ModelFile) -> dict[str, Any]:
    """Model, machine and versions, as they are reported."""
    lib = binding()
    return {
        "cores": cores(),
        "parameters": int(lib.llama_model_n_params(file.handle)),
        "bytes": file.path.stat().st_size,
        "model": file.identity,
        "versions": {
            "rlm-agent": rlm_agent.__version__,
            "llama-cpp-python": _version("llama_cpp_python"),
            "xllamacpp": _version("xllamacpp"),
        },
        "built_for": _built_for(),
    }


def _built_for() -> dict[str, str]:
    """The instructions that each library was compiled for: what is slower may just have fewer."""
    built = {"llama-cpp-python": binding().llama_print_system_info().decode()}
    if find_spec("xllamacpp") is not None:
        import xllamacpp

        built["xllamacpp"] = xllamacpp.get_system_info()
    return {name: text.strip(" |") for name, text in built.items()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def half_of_memory() -> int:
    """Half of the machine's memory in MiB; 1,024 where it cannot be told."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**21
