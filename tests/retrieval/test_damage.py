"""Damaged, foreign and half-written indexes: one sentence with the remedy, or made anew."""

import logging
import random
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from rlm_agent.retrieval.chunks import Chunk
from rlm_agent.retrieval.index import STORE, DocumentIndex
from rlm_agent.retrieval.vectors import Sizes
from rlm_agent.structure.errors import IndexFileError, IndexMismatchError, InputError
from tests.retrieval.embedding import Counting

SIZES = Sizes(flat=10)


def open_index(folder: Path) -> DocumentIndex:
    return DocumentIndex(folder, Counting(), sizes=SIZES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An index of a hundred chunks, with its files."""
    with open_index(tmp_path / "index") as index:
        index.put(Chunk(str(number), f"text {number}", "", {"n": number}) for number in range(100))
        index.settle()
    return tmp_path / "index"


def snapshots(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(("vectors-", "lexical-"))]


def answers(folder: Path) -> list[str]:
    with open_index(folder) as index:
        found = index.search(["text 5", "text 77"], 3)
        return [passage.id for one in found for passage in one]


def change(folder: Path, statement: str, *values: object) -> None:
    sql = sqlite3.connect(folder / STORE)
    sql.execute(statement, values)
    sql.commit()
    sql.close()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [Path.unlink, shorten, flip, lambda path: path.write_bytes(b"")])
def test_damaged_snapshot_is_made_anew(
    folder: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    expected = answers(folder)
    before = sorted(snapshots(folder))
    assert len(before) == 2
    for path in before:
        damage(path)
    with caplog.at_level(logging.WARNING):
        assert answers(folder) == expected
    assert [
        record.getMessage().endswith("made anew from the document store") for record in caplog.records
    ] == [
        True,
        True,
    ]
    assert len(snapshots(folder)) == 2
    caplog.clear()
    assert answers(folder) == expected
    assert caplog.records == []


@pytest.mark.parametrize("name", ["../stolen", "/etc/passwd", "vectors-zz", 7])
def test_snapshot_of_a_forged_name_is_not_opened(
    folder: Path, name: object, caplog: pytest.LogCaptureFixture
) -> None:
    expected = answers(folder)
    (held,) = folder.glob("vectors-*")
    (folder.parent / "stolen").write_bytes(held.read_bytes())  # whole, and of the right checksum
    forged = "UPDATE meta SET value = json_set(value, '$.file', ?) WHERE key = 'snapshot:vectors'"
    change(folder, forged, name)
    assert answers(folder) == expected
    assert "is no snapshot" in caplog.text or isinstance(name, int)
    assert "made anew" in caplog.text


def test_lexical_snapshot_that_points_beyond_its_arrays_is_not_used(folder: Path) -> None:
    import hashlib

    import numpy as np

    (path,) = folder.glob("lexical-*")
    with np.load(path) as held:
        arrays = {name: held[name].copy() for name in held.files}
    arrays["indices"][:] = 2**31 - 1
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    change(
        folder,
        "UPDATE meta SET value = json_set(value, '$.sha256', ?) WHERE key = 'snapshot:lexical'",
        checksum,
    )
    assert answers(folder)[0] == "5"


def test_snapshot_that_cannot_be_kept_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with open_index(tmp_path) as index:
        index.put(Chunk(str(number), f"text {number}", "") for number in range(30))
        monkeypatch.setattr("os.fsync", full)
        assert index.search(["text 7"], 1)[0][0].id == "7"
    assert "No space left" in caplog.text
    assert snapshots(tmp_path) == list(tmp_path.glob("*.partial")) == []


@pytest.mark.parametrize(
    "content", [b"not a database, and long enough to be looked at" * 50, b"SQLite format 3\0"]
)
def test_file_that_is_no_store_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STORE).write_bytes(content)
    with pytest.raises(IndexFileError, match="build the index again"):
        open_index(tmp_path)


def test_store_of_another_program_is_refused(tmp_path: Path) -> None:
    change(tmp_path, "CREATE TABLE theirs (x)")
    with pytest.raises(IndexFileError, match="not made by rlm-agent; name another folder"):
        open_index(tmp_path)


def test_store_of_another_version_is_refused(folder: Path) -> None:
    change(folder, "PRAGMA user_version = 99")
    with pytest.raises(IndexFileError, match="version 99 and this rlm-agent reads 1; build the index again"):
        open_index(folder)


def test_index_of_another_model_is_refused(folder: Path) -> None:
    class Other(Counting):
        pass

    with pytest.raises(IndexMismatchError, match=r"built with the embedding model Counting, not with Other"):
        DocumentIndex(folder, Other())
    with pytest.raises(IndexMismatchError, match="not with none"):
        DocumentIndex(folder)


def test_index_that_was_closed_says_so(folder: Path) -> None:
    index = open_index(folder)
    index.close()
    with pytest.raises(InputError, match="closed; open it again"):
        index.search(["x"])


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IndexFileError, match="name another folder"):
        open_index(tmp_path / "file" / "index")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE chunks SET text = 'forged' WHERE id = '5'",
        "UPDATE chunks SET metadata = '{}' WHERE id = '5'",
        "UPDATE vectors SET vector = zeroblob(64) WHERE row = 6",
    ],
)
def test_row_that_does_not_hold_what_was_written_is_not_answered_with(folder: Path, statement: str) -> None:
    for path in snapshots(folder):
        path.unlink()
    change(folder, statement)
    with (
        pytest.raises(IndexFileError, match=r"is damaged .*build the index again"),
        open_index(folder) as index,
    ):
        index.search(["text 5"], mode="vector")


def test_pages_of_noise_are_an_error_and_no_crash(folder: Path) -> None:
    noise = random.Random(0)
    with open_index(folder):
        pass  # the last to close leaves one file without a log
    data = bytearray((folder / STORE).read_bytes())
    for _ in range(20):
        broken = bytearray(data)
        for start in range(4096, len(data), 4096):
            if noise.random() < 0.5:
                broken[start : start + 256] = noise.randbytes(256)
        for path in folder.iterdir():
            path.unlink()
        (folder / STORE).write_bytes(broken)
        with suppress(IndexFileError):
            answers(folder)


def test_writer_that_waits_too_long_is_told_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm_agent.retrieval.schema._BUSY_SECONDS", 0.05)
    with open_index(folder) as index:
        sql = sqlite3.connect(folder / STORE, isolation_level=None)
        sql.execute("BEGIN IMMEDIATE")
        with pytest.raises(IndexFileError, match="another process writes to it; try again"):
            index.delete(["5"])
        assert index.search(["text 5"], 1)[0][0].id == "5"
        sql.execute("ROLLBACK")
        sql.close()
        index.delete(["5"])
