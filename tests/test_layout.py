"""The package is whole: what lies on disk is declared, shipped, and loaded under one name only."""

import importlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS: dict[str, Any] = PROJECT["tool"]["setuptools"]
HEAVY = {"faiss", "langgraph", "llama_cpp", "sentence_transformers", "torch", "transformers"}

IMPORT_ALL = """
import importlib, pkgutil, sys
import rlm_agent
for module in pkgutil.walk_packages(rlm_agent.__path__, "rlm_agent."):
    if not module.name.startswith("rlm_agent.training") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for name, module in sys.modules.items():
    if getattr(module, "__file__", None):
        print(f"{name}={module.__file__}")
"""


def run_python(code: str, cwd: Path = ROOT) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def packages_on_disk() -> set[str]:
    names = {path: name for name, path in SETUPTOOLS["package-dir"].items()}
    relative = [init.relative_to(ROOT).parts for top in names for init in (ROOT / top).rglob("__init__.py")]
    linked = {("rlm_agent", top) for top in names}
    return {".".join((names[parts[0]], *parts[1:-1])) for parts in relative if parts[:2] not in linked}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the source, so that no build folder is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for folder in SETUPTOOLS["package-dir"].values():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


def test_every_package_on_disk_is_declared() -> None:
    assert packages_on_disk() == set(SETUPTOOLS["packages"])


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {
        file.parent for top in SETUPTOOLS["package-dir"].values() for file in (ROOT / top).rglob("*.py")
    }
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("name", ["tools", "retrieval", "graphs"])
def test_folder_at_the_top_is_linked_into_the_package(name: str) -> None:
    link = ROOT / "rlm_agent" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", name)


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = run_python("import sys, rlm_agent; print(*sys.modules)").split()
    assert "rlm_agent" in loaded
    assert HEAVY & {name.partition(".")[0] for name in loaded} == set()


def test_every_module_is_loaded_under_one_name() -> None:
    loaded = dict(line.split("=", 1) for line in run_python(IMPORT_ALL).splitlines())
    files = {name: Path(file).resolve() for name, file in loaded.items()}
    ours = {
        name: file
        for name, file in files.items()
        if file.is_relative_to(ROOT) and "site-packages" not in file.parts and file.exists()
    }
    assert "rlm_agent.tools.rational" in ours
    assert [name for name in ours if name.partition(".")[0] != "rlm_agent"] == []
    assert len(set(ours.values())) == len(ours)


@pytest.mark.parametrize("name", ["tools", "retrieval", "graphs"])
def test_no_test_loads_a_folder_under_its_bare_name(name: str) -> None:
    assert name not in sys.modules


def test_declared_command_exists() -> None:
    module, _, function = PROJECT["project"]["scripts"]["rlm-agent"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_wheel_holds_one_package_and_its_metadata(wheel: zipfile.ZipFile) -> None:
    version = PROJECT["project"]["version"]
    top = {name.partition("/")[0] for name in wheel.namelist()}
    assert top == {"rlm_agent", f"rlm_agent-{version}.dist-info"}


def test_wheel_holds_every_module(wheel: zipfile.ZipFile) -> None:
    names = {path: name for name, path in SETUPTOOLS["package-dir"].items()}
    on_disk = {
        "/".join((*names[top].split("."), *file.relative_to(ROOT / top).parts))
        for top in names
        for file in (ROOT / top).rglob("*.py")
        if not any(parent.is_symlink() for parent in file.parents)
    }
    assert {name for name in wheel.namelist() if name.endswith(".py")} == on_disk


@pytest.mark.parametrize("name", ["rlm_agent/py.typed", "rlm_agent/models/weights/mini.gguf"])
def test_wheel_holds_the_data_file(wheel: zipfile.ZipFile, name: str) -> None:
    assert name in wheel.namelist()


def test_wheel_holds_the_licence(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
    assert "License-Expression: MIT" in wheel.read(metadata).decode()
