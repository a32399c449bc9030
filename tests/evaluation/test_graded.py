"""Tasks whose gold answers only the evaluation knows: what searches are given, and how they are graded."""

import json
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from rlm_agent import FakePolicy
from rlm_agent.app.cli import main
from rlm_agent.evaluation.comparison import compare
from rlm_agent.evaluation.grid import Grid
from rlm_agent.evaluation.runs import Cell, Setup, solve
from rlm_agent.evaluation.strategies import make_reasoner, means_of, parse_strategy
from rlm_agent.models.fake import Reply
from rlm_agent.structure.budget import Budget
from rlm_agent.tasks.calculations import Calculated
from rlm_agent.tasks.registry import get_task
from rlm_agent.tasks.task import Problem
from rlm_agent.tools.actions import OBSERVATION
from rlm_agent.tools.calling import ERROR

CELL = Cell("react", 4000)


def drawn(name: str, count: int) -> list[Calculated]:
    draw = get_task(name).draw("test", Random(f"{name}/test/0"))
    return [one for one in islice(draw, count) if isinstance(one, Calculated)]


class Perfect:
    """Looks everything up and calculates, and writes what the last observation says as the answer.

    It gives up where it is told of an error.
    """

    def __init__(self, name: str, count: int) -> None:
        self.known = {problem.text: problem for problem in drawn(name, count)}

    def __call__(self, question: str, prefix: str) -> list[Reply]:
        problem, lines = self.known[question], prefix.splitlines()
        own = [line for line in lines if not line.startswith(OBSERVATION)]
        plan = [f"Action: search[{name}]" for name in problem.names]
        plan += [f"{one.label} <<{one.expression}=" for one in problem.calculations]
        if f"{OBSERVATION}{ERROR}" in prefix:
            return [("Finish[]", -0.5)]
        if len(own) < len(plan):
            return [(plan[len(own)], -0.5)]
        return [(f"Finish[{lines[-1].removeprefix(OBSERVATION)}]", -0.5)]


@pytest.mark.parametrize("name", ["words", "catalogue"])
def test_who_calls_the_tasks_tools_solves_everything(name: str, tmp_path: Path) -> None:
    setup = Setup(name, FakePolicy(Perfect(name, 20)), None, 0)
    problems = get_task(name).sample("test", 20, 0)
    grid = Grid(setup, [CELL], problems, {"seed": 0, "values": {}}, tmp_path)
    list(grid.run())
    results = grid.results(CELL)
    assert [(result.answer, result.verified) for result in results] == [(one.gold, True) for one in problems]
    (row,) = compare({CELL: results}, "react")
    assert row.accuracy == 1.0


@pytest.mark.parametrize(
    ("name", "tools", "retriever", "right"),
    [("words", False, True, 0), ("catalogue", True, False, 0), ("catalogue", True, True, 8)],
)
def test_what_is_left_out_is_missing(name: str, tools: bool, retriever: bool, right: int) -> None:
    setup = Setup(name, FakePolicy(Perfect(name, 8)), None, 0, tools, retriever)
    grid = Grid(setup, [CELL], get_task(name).sample("test", 8, 0), {"seed": 0, "values": {}})
    list(grid.run())
    assert sum(bool(result.verified) for result in grid.results(CELL)) == right


def test_gold_answers_are_nowhere_in_a_search() -> None:
    task, policy = get_task("words"), FakePolicy(lambda question, prefix: [("It is <<1+1=", -0.5)])
    problem = Problem("How many?", gold="77317")
    reasoner = make_reasoner(parse_strategy("react"), task, policy, Budget(calls=6), 0, **means_of(task))
    events: list[Any] = []
    result = solve(reasoner, task, problem, watch=events.append)
    assert result.verified is False
    assert "77317" not in repr(events) and "77317" not in repr(policy.requests)


def test_grid_goes_on_with_graded_results(tmp_path: Path) -> None:
    problems = get_task("words").sample("test", 6, 0)
    setup = Setup("words", FakePolicy(Perfect("words", 6)), None, 0)
    first = Grid(setup, [CELL], problems, {"seed": 0, "values": {}}, tmp_path)
    next(first.run())
    again = Grid(setup, [CELL], problems, {"seed": 0, "values": {}}, tmp_path)
    assert len(again.left(CELL)) == 5
    list(again.run())
    assert all(result.verified for result in again.results(CELL))


def test_problems_of_ones_own_cannot_be_graded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "own.jsonl").write_text(json.dumps({"numbers": [1, 2, 3], "target": 6}))
    words = ["eval", "--task", "words", "--problems", str(tmp_path / "own.jsonl"), "--strategy", "react"]
    monkeypatch.setattr("sys.argv", ["rlm-agent", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and "leave --problems out" in capsys.readouterr().err
