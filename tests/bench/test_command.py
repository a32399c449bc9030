"""`rlm-agent bench engine`, as a user meets it."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rlm_agent.app import bench as command
from rlm_agent.app.cli import main
from rlm_agent.bench import engine

SMALL = ("--prompt", "8", "--branches", "8", "--expansions", "2", "--rounds", "2")


class Done:
    """What a command left: exit code, standard output and standard error."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def bench(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["rlm-agent", "bench", "engine", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return Done(int(stop.value.code or 0), captured.out, captured.err)

    return bench


def test_report_holds_all_contenders_ratios_and_settings(
    run: Any, random_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    done = run("--model", str(random_model), *SMALL, "--json", "--out", str(out))
    report = json.loads(done.out)
    assert done.code == 0
    assert json.loads(out.read_text()) == report
    names = [row["contender"] for row in report["results"]]
    servers = ["server, 4 slots", "server, 16 slots"] if find_spec("xllamacpp") else []
    ours = ["engine", "engine, not exact"]
    assert names == [*ours, "generate", "generate, all threads", *servers, "bare", "bare, not exact"]
    turns = [line.split(":")[1] for line in done.err.splitlines() if "tokens/s" in line]
    assert sorted(turns) == sorted(f" round {number}, {name}" for number in (1, 2) for name in names)
    for row in report["results"]:
        assert 0 < row["min"] <= row["tokens_per_second"] <= row["max"]
        assert len(report["rounds"][row["contender"]]) == 2
    assert list(report["ratios"]) == ours
    assert report["settings"]["prompt"] == 8
    assert report["settings"]["versions"]["llama-cpp-python"]
    assert report["settings"]["parameters"] == 90_432


def test_only_those_named_take_part(run: Any, random_model: Path) -> None:
    chosen = ("--contender", "generate, all threads", "--contender", "engine")
    report = json.loads(run("--model", str(random_model), *SMALL, *chosen, "--json").out)
    assert [row["contender"] for row in report["results"]] == ["generate, all threads", "engine"]
    assert list(report["ratios"]) == ["engine"]
    assert list(report["ratios"]["engine"]) == ["generate, all threads"]


def test_an_unknown_contender_is_refused_with_those_there_are(run: Any, random_model: Path) -> None:
    done = run("--model", str(random_model), *SMALL, "--workload", "busy", "--contender", "server")
    assert done.code != 0
    assert done.err.strip().endswith("'server'; choose among: busy machine; idle machine")


def test_missing_server_is_left_out_and_its_extra_named(
    run: Any, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    done = run("--model", str(random_model), *SMALL, "--json")
    assert "pip install 'rlm-agent[bench]'" in done.err
    report = json.loads(done.out)
    assert not any("server" in row["contender"] for row in report["results"])
    assert "better server" not in report["ratios"]["engine"]
    assert len(report["left_out"]) == 1


@pytest.mark.parametrize(
    ("workload", "names"),
    [
        ("searches", ["together", "in turn"]),
        ("busy", ["busy machine", "idle machine"]),
        ("value", ["value head on", "value head off"]),
    ],
)
def test_other_workloads_set_the_engine_against_itself(
    run: Any, random_model: Path, workload: str, names: list[str]
) -> None:
    done = run("--model", str(random_model), *SMALL, "--workload", workload)
    assert done.code == 0
    assert all(name in done.out for name in names)
    assert "medians compared" in done.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "7b"], "no model '7b'"),
        (["--model", "none.gguf"], "cannot be opened"),
        (["--workload", "rest"], "no workload 'rest'"),
        (["--model", "mini", "--prompt", "510"], "a context of 512"),
        (["--model", "mini", "--branches", "6"], "give 4, 8, 12"),
        (["--model", "mini", "--expansions", "500"], "too many"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(run: Any, words: list[str], sentence: str) -> None:
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
    assert done.err.count("\n") == 1


def test_random_model_is_written_once_into_the_folder_that_is_named(run: Any, tmp_path: Path) -> None:
    words = ("--model", "5m", *SMALL, "--rounds", "1", "--workload", "busy", "--models", str(tmp_path))
    first, second = run(*words), run(*words)
    assert (first.code, second.code) == (0, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["random-5m.gguf"]
    assert "writing" in first.err
    assert "writing" not in second.err


def test_ctrl_c_ends_in_a_sentence(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, plan: engine.Plan) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_measure", interrupted)
    done = run("--model", "mini")
    assert (done.code, done.out) == (130, "")
    assert done.err == "rlm-agent: stopped; nothing was saved\n"
