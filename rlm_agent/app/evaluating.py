"""`rlm-agent eval`: strategies at budgets over problems, with progress, and folders to go on from."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

import rlm_agent
from rlm_agent.app.tables import markdown_table, terminal_table
from rlm_agent.evaluation.comparison import Row, choose_baseline, compare
from rlm_agent.evaluation.files import write_whole
from rlm_agent.evaluation.grid import Grid, arrange
from rlm_agent.evaluation.plots import plot, require_plot
from rlm_agent.evaluation.runs import Cell, Setup
from rlm_agent.evaluation.strategies import parse_strategy
from rlm_agent.models.protocols import Policy
from rlm_agent.models.resolve import load_policy, load_value
from rlm_agent.structure.errors import InputError, RlmError, UnknownNameError
from rlm_agent.tasks.countdown.puzzle import Split
from rlm_agent.tasks.registry import get_task, read_problems
from rlm_agent.tasks.task import Problem, Task


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation found: a row for each strategy at each budget, and the strategies left out."""

    task: str
    n: int
    baseline: str
    results: list[Row]
    left_out: dict[str, str]
    """Strategies that `all` names and that cannot run here, with the reason."""

    @property
    def title(self) -> str:
        """What the rows are of."""
        return f"{self.task}, {self.n} problems"

    @property
    def table(self) -> Table:
        """The rows for a terminal."""
        return terminal_table(self.title, self.results, self.baseline)

    @property
    def json(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return asdict(self)

    @property
    def markdown(self) -> str:
        """The rows in GitHub's Markdown."""
        return markdown_table(self.results, self.baseline)


def evaluate_strategies(
    setup: Setup,
    strategies: Sequence[str],
    budgets: Sequence[int],
    *,
    baseline: str | None,
    n: int,
    split: str,
    source: str | None,
    jobs: int,
    out: Path | None,
    traces: Path | None,
    figure: Path | None,
    show: bool,
) -> Report:
    """Evaluate, and write what was asked for; with `show`, draw progress on standard error.

    `source` names problems of one's own instead of `n` of a split. `out` and `traces` are folders to go on
    from, `figure` is a file. Raises an error before the first search wherever one can be known by then.
    """
    if figure is not None:
        require_plot(figure)
    problems = _problems(get_task(setup.task), n, setup.seed or 0, split, source)
    cells, left_out = arrange(setup, strategies, budgets)
    for name, reason in left_out.items():
        print(f"rlm-agent: {name} is left out: {reason}", file=sys.stderr)
    baseline = choose_baseline(list(dict.fromkeys(cell.strategy for cell in cells)), baseline)
    grid = Grid(setup, cells, problems, _settings(setup, cells, problems), out, traces)
    _run(grid, jobs, show)
    rows = compare({cell: grid.results(cell) for cell in cells}, baseline)
    report = Report(setup.task, len(problems), baseline, rows, left_out)
    if out is not None:
        write_whole(out / "report.json", json.dumps(report.json, indent=2))
    if figure is not None:
        plot(rows, report.title, figure)
    return report


def _problems(task: Task, n: int, seed: int, split: str, source: str | None) -> list[Problem]:
    if source is None:
        if split not in ("test", "validation"):
            raise UnknownNameError(f"{split!r} cannot be evaluated on; choose test, or validation for tuning")
        return task.sample(_split(split), n, seed)
    if task.verifier is None:
        raise InputError(f"nothing could grade problems of one's own in {task.name}; leave --problems out")
    return [Problem(task.steps.read(question)) for question in read_problems(source)]


def _split(name: str) -> Split:
    return next(split for split in get_args(Split) if split == name)


def _settings(setup: Setup, cells: Sequence[Cell], problems: list[Problem]) -> dict[str, Any]:
    """What runs in one folder share: rows can then be paired, and logs be gone on with."""
    policy = load_policy(setup.model)
    own = (parse_strategy(cell.strategy).parameters.get("value") for cell in cells)
    names = sorted({name for name in (setup.value, *own) if name is not None})
    task = get_task(setup.task)
    loaded = {name: load_value(name, policy, task.steps, task.verifier) for name in names}
    values = {name: value.identity for name, value in loaded.items() if value is not None}
    return {
        "version": rlm_agent.__version__,
        "task": setup.task,
        "model": policy.identity,
        "seed": setup.seed,
        "value": setup.value,
        "values": {"head": _head_identity(policy), **values},
        **_without(setup),
        "problems": [problem.text for problem in problems],
    }


def _without(setup: Setup) -> dict[str, bool]:
    """What the task brings and the searches are not given; nothing where they are given all."""
    return {name: False for name in ("tools", "retriever") if not getattr(setup, name)}


def _head_identity(policy: Policy) -> str | None:
    """That of the model's own value head, which some strategies take where no value is given."""
    try:
        head = load_value("head", policy)
    except RlmError:
        return None
    return head.identity if head is not None else None


def _run(grid: Grid, jobs: int, show: bool) -> None:
    """Do what is left, with a bar for the whole and one for each cell that is at work."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[solved]}"),
        TimeRemainingColumn(),
    )
    count = len(set(grid.problems))
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        done = sum(count - len(grid.left(cell)) for cell in grid.cells)
        whole = progress.add_task("all", total=count * len(grid.cells), completed=done, solved="")
        bars: dict[Cell, TaskID] = {}
        for cell in grid.run(jobs):
            if cell not in bars:
                bars[cell] = progress.add_task(cell.name, total=count, solved="")
            found = grid.results(cell)
            solved = f"{sum(bool(result.verified) for result in found) / len(found):.1%}"
            missing = len(grid.left(cell))
            progress.update(bars[cell], completed=count - missing, solved=solved, visible=missing > 0)
            progress.advance(whole)
