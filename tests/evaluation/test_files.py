"""Files that outlive a stop."""

from pathlib import Path
from typing import Any

import pytest

from rlm_agent.evaluation.files import append_rows, open_folder, read_rows
from rlm_agent.structure.errors import CheckpointError, InputError

SETTINGS: dict[str, Any] = {"seed": 1, "values": {"head": None}, "problems": ["1 2 : 3"]}


def test_torn_last_line_is_taken_out_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_rows(path, [{"a": 1}, {"a": 2}])
    whole = path.read_text()
    path.write_text(whole + '{"a":')
    assert read_rows(path) == [{"a": 1}, {"a": 2}]
    assert path.read_text() == whole


def test_file_of_one_torn_line_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a":')
    assert read_rows(path) == []
    assert not path.exists()


@pytest.mark.parametrize("line", ["[1]", "1", "{", "\x00"])
def test_line_of_another_kind_is_an_error(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(CheckpointError, match="another kind"):
        read_rows(path)


def test_folder_is_gone_on_with_under_its_settings_and_more_values(tmp_path: Path) -> None:
    open_folder(tmp_path, SETTINGS)
    open_folder(tmp_path, {**SETTINGS, "values": {"head": None, "judge.gguf": "x"}})
    open_folder(tmp_path, SETTINGS)
    with pytest.raises(CheckpointError, match=r"other settings \(values\)"):
        open_folder(tmp_path, {**SETTINGS, "values": {"head": None, "judge.gguf": "y"}})


@pytest.mark.parametrize(("key", "other"), [("seed", 2), ("problems", []), ("values", {"head": "x"})])
def test_folder_of_other_settings_is_refused(tmp_path: Path, key: str, other: Any) -> None:
    open_folder(tmp_path, SETTINGS)
    with pytest.raises(CheckpointError, match=rf"other settings \({key}\)"):
        open_folder(tmp_path, {**SETTINGS, key: other})


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"values": 1}'])
def test_folder_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(CheckpointError, match="name another folder"):
        open_folder(tmp_path, SETTINGS)


def test_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        open_folder(tmp_path / "file" / "folder", SETTINGS)
