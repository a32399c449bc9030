"""`rlm-agent bench`: how fast the engine is here, beside what else runs GGUF models."""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from rlm_agent.app.stopping import stoppable
from rlm_agent.structure.errors import UnknownNameError

if TYPE_CHECKING:
    from rlm_agent.bench.engine import Plan, Workload
    from rlm_agent.bench.running import Turn

app = typer.Typer(help="Measure speed.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure speed."""


@app.command()
def engine(
    model: Annotated[
        str, typer.Option(help="5m, 125m or 500m for random weights; mini; or the path of a .gguf file.")
    ] = "5m",
    workload: Annotated[
        str,
        typer.Option(
            help="tree; searches: eight at once; busy: beside a busy process; or value: each step is scored."
        ),
    ] = "tree",
    prompt: Annotated[int, typer.Option(min=2, help="Tokens of the prompt.")] = 64,
    branches: Annotated[int, typer.Option(min=4, help="Branches that grow at once.")] = 16,
    expansions: Annotated[int, typer.Option(min=1, help="Leaves that get four children of 16 tokens.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contender; medians are reported.")] = 5,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of all contenders; else what each takes by itself."),
    ] = None,
    peer_threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of the library and the server, where they shall differ."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides the tree and every draw.")] = 0,
    contender: Annotated[
        list[str] | None,
        typer.Option(help="Who takes part, by name, one or more times; else all do."),
    ] = None,
    models: Annotated[Path | None, typer.Option(help="Keep models of random weights in this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the JSON to this file too.")] = None,
) -> None:
    """Compare generated tokens per second with llama-cpp-python, llama.cpp's server and bare decoding."""
    from rlm_agent.bench.engine import Plan
    from rlm_agent.evaluation.files import require_place, write_whole

    if out is not None:
        require_place(out)
    plan = Plan(
        _workload(workload),
        prompt,
        branches,
        expansions,
        rounds,
        threads,
        peer_threads,
        seed,
        only=contender or (),
    )
    with stoppable("nothing was saved"), tempfile.TemporaryDirectory() as scratch:
        path = _path(model, models or Path(scratch))
        report = {"model": model, **_measure(path, plan)}
    if out is not None:
        write_whole(out, json.dumps(report, indent=2))
    if as_json:
        print(json.dumps(report))
    else:
        Console().print(_table(report), _ratios(report))


def _workload(name: str) -> "Workload":
    from rlm_agent.bench.engine import Workload

    known: Workload
    for known in get_args(Workload):
        if name == known:
            return known
    raise UnknownNameError(f"there is no workload {name!r}; choose one of {', '.join(get_args(Workload))}")


def _path(model: str, folder: Path) -> Path:
    """Where a model lies; one of random weights is written into `folder` unless it is there already."""
    from rlm_agent.bench.models import SIZES, make_random_model
    from rlm_agent.models.embedded import EMBEDDED, model_file

    if model in EMBEDDED:
        return model_file(model)
    if model not in SIZES:
        if not model.endswith(".gguf"):
            names = ", ".join((*SIZES, *EMBEDDED))
            raise UnknownNameError(f"there is no model {model!r}; use {names} or the path of a .gguf file")
        return Path(model).expanduser()
    path = folder / f"random-{model}.gguf"
    if not path.exists():
        print(f"rlm-agent: writing a model of random weights, {model}", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        make_random_model(path, SIZES[model])
    return path


def _measure(path: Path, plan: "Plan") -> dict[str, Any]:
    from rlm_agent.bench.engine import line_up, measure

    line, settings = line_up(path, plan)
    for sentence in line.left_out:
        print(f"rlm-agent: {sentence}", file=sys.stderr)
    with _progress(plan.rounds * len(line.contenders)) as show:
        return measure(line, settings, plan.rounds, show)


@contextmanager
def _progress(turns: int) -> Iterator["Callable[[Turn], None]"]:
    """A bar on standard error; where that is no terminal, a line a turn, with the minutes that it took."""
    console, started = Console(stderr=True), time.monotonic()
    if not console.is_terminal:
        yield lambda turn: print(
            f"rlm-agent: round {turn.round + 1}, {turn.contender}: {turn.rate:.1f} tokens/s, "
            f"{(time.monotonic() - started) / 60:.1f} min",
            file=sys.stderr,
            flush=True,
        )
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("loading", total=turns)
        yield lambda turn: progress.update(
            bar, advance=1, description=f"{turn.contender}: {turn.rate:.0f} tokens/s"
        )


def _table(report: dict[str, Any]) -> Table:
    settings = report["settings"]
    table = Table(
        title=f"{report['model']}, {settings['workload']}: prompt of {settings['prompt']}, "
        f"{settings['branches']} branches, {settings['expansions']} expansions, {settings['rounds']} rounds"
    )
    for column in ("contender", "tokens/s", "lowest", "highest", "settings"):
        table.add_column(column, justify="left" if column in ("contender", "settings") else "right")
    for row in report["results"]:
        rates = (f"{row[key]:,.0f}" for key in ("tokens_per_second", "min", "max"))
        table.add_row(row["contender"], *rates, row["about"])
    return table


def _ratios(report: dict[str, Any]) -> Table:
    table = Table(title="medians compared")
    for column in ("contender", "to", "ratio"):
        table.add_column(column, justify="right" if column == "ratio" else "left")
    for name, others in report["ratios"].items():
        for other, ratio in others.items():
            table.add_row(name, other, f"{ratio:.2f}")
    return table
