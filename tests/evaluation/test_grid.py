"""Strategies at budgets over problems: gone on with, shared out, the same however it is done."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlm_agent.evaluation.files import file_name
from rlm_agent.evaluation.grid import Grid, arrange
from rlm_agent.evaluation.runs import Cell, Result, Setup
from rlm_agent.evaluation.traces import TraceLog
from rlm_agent.graphs.reasoner import STRATEGIES
from rlm_agent.structure.errors import BudgetError, CheckpointError, InputError, ModelError
from rlm_agent.tasks.registry import get_task
from rlm_agent.tasks.task import Problem

SETUP = Setup("countdown", "mini", None, 0)
PROBLEMS = get_task("countdown").sample("test", 5, 0)
QUESTIONS = [problem.text for problem in PROBLEMS]
CELLS = [Cell(text, budget) for budget in (40, 120) for text in ("chain", "best_of_n:n=9,parallel=1")]
SETTINGS: dict[str, Any] = {"seed": 0, "values": {}}


def grid(out: Path | None = None, traces: Path | None = None, problems: list[Problem] = PROBLEMS) -> Grid:
    return Grid(SETUP, CELLS, problems, SETTINGS, out, traces)


def log_name(cell: Cell, suffix: str = ".jsonl") -> str:
    return file_name(cell.name) + suffix


def found(grid: Grid) -> dict[Cell, list[Result]]:
    """All results, without the seconds, which no two runs share."""
    return {cell: [replace(result, seconds=0.0) for result in grid.results(cell)] for cell in grid.cells}


def finished(grid: Grid, processes: int = 1) -> dict[Cell, list[Result]]:
    list(grid.run(processes))
    return found(grid)


def test_every_cell_has_every_problem_in_order_within_its_budget() -> None:
    results = finished(grid())
    assert list(results) == CELLS
    for cell, row in results.items():
        assert [result.question for result in row] == QUESTIONS
        assert max(result.completion_tokens for result in row) <= cell.budget_tokens


def test_stopped_run_is_gone_on_with_where_it_was(tmp_path: Path) -> None:
    stopped = grid(tmp_path).run()
    for _ in range(7):
        next(stopped)
    del stopped
    again = grid(tmp_path)
    assert sum(len(again.left(cell)) for cell in CELLS) == 4 * 5 - 7
    assert len(list(again.run())) == 13
    assert found(again) == finished(grid())
    assert list(grid(tmp_path).run()) == []


def test_more_strategies_and_budgets_leave_what_is_there(tmp_path: Path) -> None:
    list(Grid(SETUP, CELLS[:1], PROBLEMS, SETTINGS, tmp_path).run())
    assert len(list(grid(tmp_path).run())) == 3 * 5


def test_processes_change_no_result_and_no_order(tmp_path: Path) -> None:
    one, two = grid(tmp_path / "1", tmp_path / "1"), grid(tmp_path / "2", tmp_path / "2")
    assert finished(one) == finished(two, 2)
    assert multiprocessing.active_children() == []
    for cell in CELLS:
        logs = [(tmp_path / folder / log_name(cell)).read_text().splitlines() for folder in "12"]
        first, second = ([json.loads(line)["question"] for line in log] for log in logs)
        assert first == second == QUESTIONS


def test_end_of_a_process_is_an_error_and_what_was_done_is_kept(tmp_path: Path) -> None:
    runs = grid(tmp_path).run(2)
    next(runs)
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGKILL)
    with pytest.raises(ModelError, match=r"ended by itself \(exit code -9\); run again"):
        list(runs)
    assert multiprocessing.active_children() == []
    assert finished(grid(tmp_path)) == finished(grid())


def test_error_of_a_search_comes_out_of_its_process() -> None:
    bad = Grid(SETUP, CELLS[:1], [Problem("no puzzle"), *PROBLEMS], SETTINGS)
    with pytest.raises(InputError, match="not a puzzle"):
        list(bad.run(2))


def test_problem_that_occurs_twice_is_searched_once_and_counts_twice() -> None:
    twice = grid(problems=[*PROBLEMS[:2], PROBLEMS[0]])
    assert len(list(twice.run())) == 2 * len(CELLS)
    assert [len(row) for row in found(twice).values()] == [3] * len(CELLS)


def test_traces_that_are_missing_are_made_and_results_kept(tmp_path: Path) -> None:
    before = finished(grid(tmp_path / "out"))
    both = grid(tmp_path / "out", tmp_path / "traces")
    assert len(list(both.run())) == len(CELLS) * len(PROBLEMS)
    assert found(both) == before
    for cell in CELLS:
        assert both.left(cell) == []
        assert len((tmp_path / "out" / log_name(cell)).read_text().splitlines()) == len(PROBLEMS)
        log = TraceLog(tmp_path / "traces" / log_name(cell, ".trace.jsonl"))
        assert all(question in log for question in QUESTIONS)


def test_log_of_something_else_is_refused(tmp_path: Path) -> None:
    grid(tmp_path)
    (tmp_path / "chain@40.jsonl").write_text('{"question": "1 2 : 3"}\n')
    with pytest.raises(CheckpointError, match="no result"):
        grid(tmp_path)


def test_cells_come_by_budget_and_count_once() -> None:
    cells, left_out = arrange(SETUP, ["mcts", "chain", "mcts"], [200, 100, 200])
    assert [cell.name for cell in cells] == ["mcts@100", "chain@100", "mcts@200", "chain@200"]
    assert left_out == {}


def test_what_all_cannot_run_is_left_out_with_its_reason() -> None:
    cells, left_out = arrange(SETUP, ["all"], [100])
    assert {cell.strategy.partition(":")[0] for cell in cells} | set(left_out) == set(STRATEGIES)
    assert "value" in left_out["particle_filtering"]
    with pytest.raises(InputError, match="value"):
        arrange(SETUP, ["all", "particle_filtering"], [100])


def test_what_is_wrong_for_all_is_an_error() -> None:
    with pytest.raises(BudgetError):
        arrange(SETUP, ["all"], [100, 0])
    with pytest.raises(InputError, match="no model"):
        arrange(replace(SETUP, model="maxi"), ["all"], [100])
    with pytest.raises(InputError, match="no value"):
        arrange(replace(SETUP, value="tail"), ["all"], [100])
