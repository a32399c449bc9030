"""The command line, as a user meets it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rlm_agent.app.cli import main
from rlm_agent.graphs.reasoner import STRATEGIES

PUZZLE = "4 9 10 13 : 24"


class Done:
    """What a command left: exit code, standard output and standard error."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.out)
        return report


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["rlm-agent", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return Done(int(stop.value.code or 0), captured.out, captured.err)

    return command


def test_solve_prints_a_verified_answer_and_nothing_else_as_json(run: Any) -> None:
    done = run("solve", PUZZLE, "--seed", "1", "--json")
    assert (done.code, done.err) == (0, "")
    assert list(done.report) == [
        "answer",
        "verified",
        "strategy",
        "model",
        "nodes",
        "prompt_tokens",
        "completion_tokens",
        "model_calls",
        "seconds",
        "stopped",
    ]
    assert done.report["verified"] is True
    assert done.report["stopped"] == "verified"


def test_solve_with_one_seed_is_one_search(run: Any) -> None:
    first, second = (run("solve", PUZZLE, "--seed", "5", "--json").report for _ in range(2))
    del first["seconds"], second["seconds"]
    assert first == second


def test_solve_shows_the_tree_and_saves_it(run: Any, tmp_path: Path) -> None:
    done = run("solve", PUZZLE, "--seed", "1", "--save", str(tmp_path / "run.json"))
    saved = json.loads((tmp_path / "run.json").read_text())
    assert "verified" in done.out
    assert saved["usage"]["nodes"] == len(saved["thoughts"]) - 1
    assert saved["thoughts"].keys() == saved["stats"].keys()


def test_budget_of_tokens_is_kept(run: Any) -> None:
    done = run("solve", "2 5 5 10 : 24", "--seed", "1", "--budget-tokens", "30", "--json")
    assert done.report["completion_tokens"] <= 30


def test_eval_reports_accuracy_with_its_interval(run: Any) -> None:
    done = run("eval", "--n", "4", "--strategy", "chain", "--strategy", "best_of_n:n=2", "--json")
    assert (done.code, list(done.report), done.report["n"]) == (0, ["task", "n", "results"], 4)
    for row in done.report["results"]:
        low, high = row["ci95"]
        assert low <= row["accuracy"] <= high
        assert row["completion_tokens_mean"] > 0
    assert [row["strategy"] for row in done.report["results"]] == ["chain", "best_of_n:n=2"]


def test_eval_goes_on_where_a_torn_log_ends(run: Any, tmp_path: Path) -> None:
    words = ["eval", "--task", "countdown", "--n", "4", "--strategy", "chain", "--json"]
    whole = run(*words).report
    folder = tmp_path / "run"
    assert (
        run(*words, "--out", str(folder)).report["results"][0]["accuracy"] == whole["results"][0]["accuracy"]
    )
    log = folder / "chain.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:2]) + lines[2][:20])
    again = run(*words, "--out", str(folder)).report
    assert again["results"][0]["completion_tokens_mean"] == whole["results"][0]["completion_tokens_mean"]
    assert len(log.read_text().splitlines()) == 4
    other = run(*words, "--seed", "9", "--out", str(folder))
    assert other.code == 2
    assert "other settings" in other.err


def test_eval_reads_problems_from_files(run: Any, tmp_path: Path) -> None:
    table = tmp_path / "puzzles.csv"
    table.write_text("Rank,Puzzles\n1,1 1 4 6\n2,1 1 11 11\n3,1 2 3 4\n")
    lines = tmp_path / "puzzles.jsonl"
    lines.write_text('{"numbers": [1, 2, 3], "target": 6}\n')
    assert run("eval", "--problems", f"{table}:2-3", "--strategy", "chain", "--json").report["n"] == 2
    words = ["--task", "countdown", "--problems", str(lines), "--strategy", "chain", "--json"]
    assert run("eval", *words).report["n"] == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["solve", "1 1 1 1"], "no solution"),
        (["solve", "What is the capital of France?"], "not a puzzle"),
        (["solve", "4 9 10 13 : 25", "--task", "game24"], "use the task countdown"),
        (["solve", PUZZLE, "--task", "chess"], "no task 'chess'"),
        (["solve", PUZZLE, "--strategy", "luck"], "no strategy 'luck'"),
        (["solve", PUZZLE, "--strategy", "mcts:branchin=2"], "did you mean 'branching'"),
        (["solve", PUZZLE, "--model", "maxi"], "no model 'maxi'"),
        (["solve", PUZZLE, "--model", "none.gguf"], "cannot be opened"),
        (["solve", PUZZLE, "--budget-tokens", "0"], "budget of 0 tokens"),
        (["eval", "--problems", "none.csv"], "cannot be read"),
        (["eval", "--split", "train"], "cannot be evaluated on"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(run: Any, words: list[str], sentence: str) -> None:
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("rlm-agent: ")
    assert sentence in done.err
    assert done.err.count("\n") == 1


def test_missing_extra_names_the_command_that_installs_it(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlm_agent.models import resolve

    monkeypatch.setattr(resolve, "_loaded", {})
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    done = run("solve", PUZZLE)
    assert done.code == 2
    assert "pip install 'rlm-agent[local]'" in done.err


@pytest.mark.parametrize("words", [["--help"], ["solve", "--help"], ["eval", "--help"], ["train", "--help"]])
def test_help_is_there(run: Any, words: list[str]) -> None:
    done = run(*words)
    assert done.code == 0
    assert "Usage" in done.out


def test_strategies_are_listed(run: Any) -> None:
    rows = run("strategies", "--json").out
    assert [row["strategy"] for row in json.loads(rows)] == list(STRATEGIES)


def test_ctrl_c_ends_an_evaluation_in_a_sentence_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """A real process, a real signal; `--out` keeps what was done.

    Where the tests run in the background of a shell, their children would ignore the signal.
    """
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; from rlm_agent.app.cli import main; main()"
    words = ["eval", "--n", "60", "--strategy", "chain", "--json", "--out", str(tmp_path)]
    command = [sys.executable, "-c", code, *words]
    log = tmp_path / "chain.jsonl"
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (log.exists() and log.read_text().count("\n")):
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    kept = log.read_text()
    assert (process.returncode, out) == (130, "")
    assert "run the same command again to go on" in err
    assert "Traceback" not in err
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["n"] == 60
    assert log.read_text().startswith(kept)
