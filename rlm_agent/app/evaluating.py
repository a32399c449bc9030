"""`rlm-agent eval`: strategies over problems, with progress, a table, and a folder to go on from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import rlm_agent
from rlm_agent.evaluation import runs
from rlm_agent.models.resolve import load_policy, load_value
from rlm_agent.structure.budget import Budget
from rlm_agent.structure.errors import UnknownNameError
from rlm_agent.tasks.countdown.puzzle import Split
from rlm_agent.tasks.registry import Task, get_task, read_problems


def evaluate_strategies(
    task_name: str,
    strategies: Sequence[str],
    model: str,
    *,
    value: str | None,
    n: int,
    seed: int,
    budget_tokens: int,
    split: str,
    problems: str | None,
    out: Path | None,
    show: bool,
) -> dict[str, Any]:
    """Evaluate and return the report; with `show`, draw progress and the table."""
    task = get_task(task_name)
    questions = _problems(task, n, seed, split, problems)
    chosen = [runs.parse_strategy(text) for text in strategies]
    budget = Budget(tokens=budget_tokens)
    reasoners = [runs.make_reasoner(strategy, task, model, budget, seed, value=value) for strategy in chosen]
    settings = {
        "version": rlm_agent.__version__,
        "task": task_name,
        "model": load_policy(model).identity,
        "seed": seed,
        "budget_tokens": budget_tokens,
        "problems": questions,
    }
    if (judge := load_value(value, load_policy(model))) is not None:
        settings["value"] = judge.identity
    rows = []
    with _progress(show) as progress:
        for strategy, reasoner in zip(chosen, reasoners, strict=True):
            log = runs.open_log(out, settings, strategy.text) if out is not None else None
            bar = progress.add_task(strategy.text, total=len(questions), solved="")
            results: list[runs.Result] = []
            for result in runs.evaluate_strategy(reasoner, task, questions, log):
                results.append(result)
                solved = sum(r.verified for r in results) / len(results)
                progress.update(bar, advance=1, solved=f"{solved:.1%}")
            rows.append(runs.summary(strategy.text, results))
    report = {"task": task_name, "n": len(questions), "results": rows}
    if out is not None:
        runs.write_whole(out / "report.json", json.dumps(report, indent=2))
    if show:
        Console().print(_table(report))
    return report


def _problems(task: Task, n: int, seed: int, split: str, source: str | None) -> list[str]:
    if source is None:
        if split not in ("test", "validation"):
            raise UnknownNameError(f"{split!r} cannot be evaluated on; choose test, or validation for tuning")
        return task.problems(_split(split), n, seed)
    return [task.steps.read(question) for question in read_problems(source)]


def _split(name: str) -> Split:
    return next(split for split in get_args(Split) if split == name)


def _progress(show: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[solved]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not show,
    )


def _table(report: dict[str, Any]) -> Table:
    table = Table(title=f"{report['task']}, {report['n']} problems")
    for column in ("strategy", "accuracy", "95% interval", "tokens a problem", "seconds a problem"):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    for row in report["results"]:
        low, high = row["ci95"]
        table.add_row(
            row["strategy"],
            f"{row['accuracy']:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{row['completion_tokens_mean']:.0f}",
            f"{row['seconds_mean']:.3f}",
        )
    return table
