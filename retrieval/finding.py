"""The documents under paths that a user names; nothing outside of them, whatever their links say."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlm_agent.retrieval.parts import READERS
from rlm_agent.structure.errors import DocumentError, InputError


@dataclass(frozen=True, slots=True)
class Found:
    """A document on disk; its name is the path from the named folder on, that folder included."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Problem:
    """What could not be read, and why: a sentence with the remedy."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} {self.reason}"


def find_documents(paths: Sequence[str | Path]) -> tuple[list[Found], list[Problem]]:
    """The documents in files and folders, by name, and what is left out that looked like one.

    Files that are named are taken whatever their names end in; in folders those whose names end as a
    document's do. Hidden ones and links out of a folder are left out. Raises `InputError` where a path is
    missing or two documents have one name.
    """
    found: dict[str, Found] = {}
    problems: list[Problem] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path} does not exist; name a file or a folder")
        root = path.resolve()
        for one in _walk(root, problems) if root.is_dir() else [Found(root.name, root)]:
            if one.name in found and found[one.name].path != one.path:
                raise InputError(
                    f"{found[one.name].path} and {one.path} have one name; name the folder above both"
                )
            found[one.name] = one
    return sorted(found.values(), key=lambda one: one.name), problems


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a regular file; `DocumentError` where it has more than `most` or cannot be read."""
    try:
        # A pipe would wait for ever to be opened.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise DocumentError("is no regular file; leave it out")
            data = stream.read(most + 1)
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}); see to its permissions") from error
    if len(data) > most:
        raise DocumentError(f"is larger than {most / 1e6:,.0f} MB; split it, or allow larger documents")
    return data


_NONBLOCK = getattr(os, "O_NONBLOCK", 0)


def _walk(root: Path, problems: list[Problem]) -> Iterator[Found]:
    def broken(error: OSError) -> None:
        problems.append(
            Problem(str(error.filename), f"cannot be read ({error.strerror}); see to its permissions")
        )

    for folder, folders, files in os.walk(root, onerror=broken):
        links = [path for name in folders if (path := Path(folder) / name).is_symlink()]
        problems += [Problem(str(path), "is a link to a folder; name that folder itself") for path in links]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder) / name
            if name.startswith(".") or path.suffix.lower() not in READERS:
                continue
            problem = _refused(root, path)
            if problem:
                problems.append(Problem(ascii(str(path))[1:-1], problem))
            else:
                yield Found(f"{root.name}/{path.relative_to(root).as_posix()}", path)


def _refused(root: Path, path: Path) -> str:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        return "is a link that leads out of its folder; name the file itself"
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8; rename it"
    return ""
