"""Files that a stop at any moment leaves usable: written whole, or a line of JSON at a time."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlm_agent.structure.errors import CheckpointError, InputError


def require_place(path: Path) -> None:
    """`InputError` where no file can be written at `path`; asked before a search, it spares the search."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"{path} cannot be written; name a file in an existing folder")


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def append_rows(path: Path, rows: Iterable[Any]) -> None:
    """Add rows to a file in one piece, a line of JSON each."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text)


def write_rows(path: Path, rows: Iterable[Any]) -> None:
    """Write a file of rows whole; without rows there is no file."""
    lines = [json.dumps(row) for row in rows]
    write_whole(path, "\n".join(lines)) if lines else path.unlink(missing_ok=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, none where it is missing; a last line that was cut off is taken out of the file.

    Raises `CheckpointError` where a line is no JSON object.
    """
    if not path.exists():
        return []
    whole, _, torn = path.read_text(encoding="utf-8").rpartition("\n")
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise _foreign(path) from error
    if not all(isinstance(row, dict) for row in rows):
        raise _foreign(path)
    if torn:
        write_rows(path, rows)
    return rows


def open_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make a folder for runs under `settings`, or go on with one that is there.

    They stand in `settings.json`; `settings["values"]`, identities by name, may grow from run to run. Raises
    `CheckpointError` where the folder holds runs with other settings, `InputError` where it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}); name another folder") from error
    path = folder / "settings.json"
    require_place(path)
    kept = _read_settings(path) if path.exists() else dict(settings)
    values = {**settings["values"], **kept["values"]}
    asked = {**settings, "values": values | settings["values"]}
    different = [key for key in {**kept, **asked} if asked.get(key) != {**kept, "values": values}.get(key)]
    if different:
        raise CheckpointError(
            f"{folder} holds a run with other settings ({', '.join(different)}); name another folder"
        )
    write_whole(path, json.dumps(asked, indent=2))


def file_name(text: str) -> str:
    """A text as the name of a file."""
    return re.sub(r"[^\w.=@-]+", "_", text)


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read; name another folder") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("values"), dict):
        raise CheckpointError(f"{path} holds no settings of this version; name another folder")
    return settings


def _foreign(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} has a line of another kind; name another folder")
