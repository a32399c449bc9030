"""The command line, as a user meets it."""

import json
import os
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
    assert (done.code, done.report["n"], done.report["left_out"]) == (0, 4, {})
    for row in done.report["results"]:
        low, high = row["ci95"]
        assert low <= row["accuracy"] <= high
        assert row["completion_tokens_mean"] > 0
    assert [row["strategy"] for row in done.report["results"]] == ["chain", "best_of_n:n=2"]


def test_eval_pairs_strategies_at_each_budget_in_markdown_and_as_a_figure(run: Any, tmp_path: Path) -> None:
    words = ["eval", "--n", "3", "--strategy", "chain", "--strategy", "mcts", "--baseline", "mcts"]
    words += ["--budget-tokens", "120", "--budget-tokens", "40", "--out", str(tmp_path)]
    done = run(*words, "--markdown", "--plot", str(tmp_path / "figure.svg"))
    heading, _, *lines = done.out.splitlines()
    assert done.code == 0
    assert "points against `mcts`" in heading
    assert [line.split("|")[1:3] for line in lines] == [
        [" 40 ", " `chain` "],
        [" 40 ", " `mcts` "],
        [" 120 ", " `chain` "],
        [" 120 ", " `mcts` "],
    ]
    assert {line.count("|") for line in lines} == {heading.count("|")}
    assert (tmp_path / "figure.svg").exists()
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["difference"] is None for row in report["results"]] == [False, True, False, True]
    assert run(*words, "--json").report == report


def test_eval_of_all_says_what_it_leaves_out(run: Any) -> None:
    done = run("eval", "--n", "1", "--strategy", "all", "--budget-tokens", "30", "--json")
    rows = done.report["results"]
    assert {row["strategy"].partition(":")[0] for row in rows} | set(done.report["left_out"]) == set(
        STRATEGIES
    )
    assert done.report["baseline"] == "best_of_n:n=1000,parallel=1"
    assert len(done.err.splitlines()) == len(done.report["left_out"])


def test_table_for_people_shows_every_row(run: Any) -> None:
    done = run("eval", "--n", "2", "--strategy", "chain", "--strategy", "best_of_n:n=2")
    assert done.code == 0
    for word in ("game24, 2 problems", "chain", "best_of_n"):
        assert word in done.out


def test_traces_hold_every_event_as_a_line(run: Any, tmp_path: Path) -> None:
    one, folder = tmp_path / "one.jsonl", tmp_path / "all"
    assert run("solve", PUZZLE, "--seed", "1", "--strategy", "chain", "--json", "--trace", str(one)).out
    run("eval", "--n", "2", "--strategy", "chain", "--traces", str(folder), "--json")
    for path, count in ((one, 1), (folder / "chain@4000.trace.jsonl", 2)):
        events = [json.loads(line) for line in path.read_text().splitlines()]
        assert len({event["question"] for event in events}) == count
        assert [event["event"] for event in events].count("answer") == count
        assert {event["event"] for event in events} == {"operator", "thought", "answer"}


def test_eval_goes_on_where_a_torn_log_ends(run: Any, tmp_path: Path) -> None:
    words = ["eval", "--task", "countdown", "--n", "4", "--strategy", "chain", "--json"]
    whole = run(*words).report
    folder = tmp_path / "run"
    assert (
        run(*words, "--out", str(folder)).report["results"][0]["accuracy"] == whole["results"][0]["accuracy"]
    )
    log = folder / "chain@4000.jsonl"
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
        (["eval", "--budget-tokens", "500", "--budget-tokens", "0"], "budget of 0 tokens"),
        (["eval", "--baseline", "chain"], "'chain' is not compared"),
        (["eval", "--plot", "figure.gif"], ".svg or .png"),
        (["eval", "--json", "--markdown"], "choose one"),
        (["solve", PUZZLE, "--trace", "nowhere/trace.jsonl"], "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(run: Any, words: list[str], sentence: str) -> None:
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("rlm-agent: ")
    assert sentence in done.err
    assert done.err.count("\n") == 1


def test_missing_extra_names_the_command_that_installs_it(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlm_agent.models.gguf import loading

    monkeypatch.setattr(loading, "_loaded", {})
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


def test_page_of_the_strategies_is_up_to_date(run: Any) -> None:
    page = Path(__file__).parents[2] / "docs" / "strategies.md"
    command = "rlm-agent strategies --markdown > docs/strategies.md"
    assert page.read_text(encoding="utf-8") == run("strategies", "--markdown").out, f"renew it: {command}"


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_an_evaluation_in_a_sentence_and_the_next_run_goes_on(tmp_path: Path, jobs: str) -> None:
    """Real processes, a real signal to all of them; `--out` keeps what was done.

    Where the tests run in the background of a shell, their children would ignore the signal.
    """
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; from rlm_agent.app.cli import main; main()"
    words = ["eval", "--n", "60", "--strategy", "chain", "--json", "--out", str(tmp_path), "--jobs", jobs]
    command = [sys.executable, "-c", code, *words]
    log = tmp_path / "chain@4000.jsonl"
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while process.poll() is None and not (log.exists() and log.read_text().count("\n")):
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    kept = log.read_text().splitlines(keepends=True)
    assert (process.returncode, out) == (130, "")
    assert "run the same command again to go on" in err
    assert "Traceback" not in err
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(again.stdout)["n"] == 60
    whole = [line for line in kept if line.endswith("\n")]
    assert set(whole) <= set(log.read_text().splitlines(keepends=True))
