"""Strategies at budgets over the same problems: what is done, and what is left to do."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlm_agent.evaluation.files import file_name, open_folder
from rlm_agent.evaluation.runs import Cell, Result, ResultLog, Setup
from rlm_agent.evaluation.strategies import expand
from rlm_agent.evaluation.traces import TraceLog
from rlm_agent.evaluation.workers import run_searches
from rlm_agent.structure.budget import Budget
from rlm_agent.structure.errors import InputError
from rlm_agent.tasks.task import Problem


class Grid:
    """Every cell on every problem, gone on with where folders hold what was done before.

    `out` keeps results and `traces` the events of the searches, a file a cell each. A problem is done once
    its result is known and, with `traces`, its trace is kept; one that occurs twice is searched once.
    """

    def __init__(
        self,
        setup: Setup,
        cells: Sequence[Cell],
        problems: Sequence[Problem],
        settings: Mapping[str, Any],
        out: Path | None = None,
        traces: Path | None = None,
    ) -> None:
        """`settings` are what all runs in one folder share; see `open_folder`, also for what is raised."""
        for folder in filter(None, (out, traces)):
            open_folder(folder, settings)
        self.cells, self.problems = cells, [problem.text for problem in problems]
        self._given = {problem.text: problem for problem in problems}
        self._setup = setup
        self._logs = {cell: ResultLog(out and out / _file(cell, ".jsonl")) for cell in cells}
        kept = cells if traces is not None else ()
        self._traces = {cell: TraceLog(Path(traces or "", _file(cell, ".trace.jsonl"))) for cell in kept}

    def results(self, cell: Cell) -> list[Result]:
        """What is known of a cell, in the order of the problems."""
        return self._logs[cell].of(self.problems)

    def left(self, cell: Cell) -> list[str]:
        """The problems of a cell that are not done, each once."""
        logs = [log for log in (self._logs[cell], self._traces.get(cell)) if log is not None]
        return [text for text in dict.fromkeys(self.problems) if not all(text in log for log in logs)]

    def run(self, processes: int = 1) -> Iterator[Cell]:
        """Do what is left, cell by cell; yields the cell of each search that has ended and is kept."""
        jobs = [(cell, self._given[text]) for cell in self.cells for text in self.left(cell)]
        for done in run_searches(self._setup, jobs, processes, traced=bool(self._traces)):
            if done.cell in self._traces:
                self._traces[done.cell].add(done.result.question, done.events)
            self._logs[done.cell].add(done.result)
            if not self.left(done.cell):
                self._logs[done.cell].sort(self.problems)
            yield done.cell


def arrange(
    setup: Setup, strategies: Sequence[str], budgets: Sequence[int]
) -> tuple[list[Cell], dict[str, str]]:
    """The cells of strategies at budgets, the smallest budget first; and who of `all` is left out, and why.

    Strategies and budgets count once. Raises what making a reasoner raises; of the strategies that `all`
    stands for, one that cannot be made in this setup is left out instead.
    """
    setup.check()
    for budget in budgets:
        Budget(tokens=budget)
    left_out, kept = {}, []
    for text in expand(strategies):
        try:
            setup.reasoner(Cell(text, budgets[0]))
            kept.append(text)
        except InputError as error:
            if text in strategies:
                raise
            left_out[text] = str(error)
    if not kept:
        raise InputError("no strategy can be compared in this way; name one")
    return [Cell(text, budget) for budget in sorted(set(budgets)) for text in kept], left_out


def _file(cell: Cell, suffix: str) -> str:
    return file_name(cell.name) + suffix
