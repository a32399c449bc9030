"""`rlm-agent index`, as a user meets it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rlm_agent.app.cli import main
from tests.retrieval.embedding import minilm_folder


class Done(NamedTuple):
    """What a command left: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["rlm-agent", "index", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return Done(int(stop.value.code or 0), captured.out, captured.err)

    return command


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Velk\n\nThe velk weighs 5 kg.\n")
    (folder / "b.txt").write_text("The orm weighs 7 kg.\n")
    return folder


def test_index_is_built_searched_listed_and_changed(run: Any, docs: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    done = run("build", index, docs, "--model", "none", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {
        "written": 2,
        "unchanged": 0,
        "deleted": 0,
        "problems": [],
        "change": {"added": 2, "replaced": 0, "unchanged": 0, "deleted": 0, "embedded": 0},
        "chunks": 2,
    }
    (found,) = json.loads(run("search", index, "orm", "--json").out)
    assert (found["source"], found["text"]) == ("docs/b.txt, line 1", "The orm weighs 7 kg.")
    assert json.loads(run("list", index, "--json").out) == {"docs/a.md": 1, "docs/b.txt": 1}

    (docs / "b.txt").unlink()
    (tmp_path / "c.csv").write_text("name,price\nTarn,3\n")
    assert "1 documents written" in run("add", index, tmp_path / "c.csv").out
    assert run("list", index).out.split() == ["1", "c.csv", "1", "docs/a.md", "1", "docs/b.txt"]
    wanted = '{"price": {"$lt": 4}}'
    assert run("search", index, "tarn velk", "--filter", wanted).out.startswith("1. c.csv, row 2")
    assert "1 deleted" in run("build", index, docs, tmp_path / "c.csv", "--model", "none").out
    assert run("delete", index, "c.csv").out == "1 documents with 1 chunks deleted\n"
    assert json.loads(run("list", index, "--json").out) == {"docs/a.md": 1}


@pytest.mark.slow
def test_index_with_a_model_finds_by_meaning(run: Any, docs: Path, tmp_path: Path) -> None:
    minilm = minilm_folder()
    index = tmp_path / "index"
    assert "2 texts embedded" in run("build", index, docs, "--model", minilm).out
    done = run("search", index, "How heavy is an orm?", "-k", "1", "--mode", "vector", "--model", minilm)
    assert done.out.startswith("1. docs/b.txt, line 1")
    assert done.err == ""
    done = run("search", index, "orm", "--model", "none")
    assert done.code == 2
    assert "use that model" in done.err


def test_bad_documents_are_told_in_a_line_each(run: Any, docs: Path, tmp_path: Path) -> None:
    (docs / "bad\x1b[2J.txt").write_bytes(b"\0")
    done = run("build", tmp_path / "index", docs, "--model", "none")
    assert done.code == 0
    assert done.err.splitlines() == [
        "rlm-agent: left out: docs/bad\ufffd[2J.txt is binary; convert it to text first, or leave it out"
    ]


def test_text_of_a_document_cannot_steer_the_terminal(run: Any, docs: Path, tmp_path: Path) -> None:
    (docs / "b.txt").write_text("orm \x1b]0;title\x07 [bold]orm[/bold]")
    run("build", tmp_path / "index", docs, "--model", "none")
    assert "orm \ufffd]0;title\ufffd [bold]orm[/bold]" in run("search", tmp_path / "index", "orm").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "INDEX", "x"], "holds no index; make one with: rlm-agent index build"),
        (["add", "INDEX", "DOCS"], "holds no index; make one with: rlm-agent index build"),
        (["list", "INDEX"], "holds no index"),
        (["build", "INDEX", "DOCS/none"], "does not exist; name a file or a folder"),
        (["build", "INDEX", "EMPTY"], "no document was found"),
        (["build", "INDEX", "DOCS", "--chunk-size", "9"], "chunks of 9 characters cannot overlap by 100"),
        (["build", "DOCS/a.md", "DOCS"], "cannot be made"),
        (["search", "BUILT", "x", "--filter", "{"], "the filter is no JSON"),
        (["search", "BUILT", "x", "--filter", "3"], "the filter is no JSON object"),
        (["search", "BUILT", "x", "--filter", '{"a": null}'], "ask for a text, a number or a boolean"),
        (["search", "BUILT", "x", "--mode", "magic"], "there is no mode 'magic'"),
        (["search", "BUILT", "x", "--mode", "vector"], "without embeddings"),
        (["delete", "BUILT", "docs/zzz"], "holds no document 'docs/zzz'"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_2(
    run: Any, docs: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    built, empty = tmp_path / "built", tmp_path / "empty"
    empty.mkdir()
    if "BUILT" in words:
        run("build", built, docs, "--model", "none")
    places = {"INDEX": tmp_path / "index", "BUILT": built, "EMPTY": empty, "DOCS": docs}
    filled = [
        str(places[word.partition("/")[0]] / word.partition("/")[2])
        if word.partition("/")[0] in places
        else word
        for word in words
    ]
    needs_model = words[0] == "build" and "--model" not in words
    done = run(*filled, *(["--model", "none"] if needs_model else []))
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(3000):
        (docs / f"{number}.txt").write_text(f"text number {number}")
    words = ["index", "build", str(tmp_path / "index"), str(docs), "--model", "none", "--json"]
    start = [sys.executable, "-c", "from rlm_agent.app.cli import main; main()", *words]
    with subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("index/store.sqlite3-wal")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "rlm-agent: stopped; run the same command again to go on\n"
    done = subprocess.run(start, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["chunks"] == 3000


@pytest.mark.parametrize("command", ["build", "add", "search", "list", "delete"])
def test_help_says_what_a_command_does(run: Any, command: str) -> None:
    done = run(command, "--help")
    assert done.code == 0
    assert "INDEX" in done.out
