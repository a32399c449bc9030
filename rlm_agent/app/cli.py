"""`rlm-agent`: solve one problem, evaluate strategies on many, train the embedded model.

Heavy imports wait until a command needs them, so that `--help` answers at once.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rlm_agent.app import bench, index, serving, train
from rlm_agent.app.stopping import stoppable
from rlm_agent.structure.errors import InputError, RlmError
from rlm_agent.structure.events import Event

app = typer.Typer(
    name="rlm-agent",
    help="Reasoning by search on small language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(train.app, name="train")
app.add_typer(bench.app, name="bench")
app.add_typer(index.app, name="index")
app.command()(serving.serve)

TaskOption = Annotated[str, typer.Option(help="game24, countdown, five24, five, words or catalogue.")]
ModelOption = Annotated[str, typer.Option(help="mini, mini-tools, a .gguf file, or a server's URL.")]
ToolsOption = Annotated[bool, typer.Option("--tools/--no-tools", help="The tools that the task brings.")]
RetrieverOption = Annotated[
    bool, typer.Option("--retriever/--no-retriever", help="The retriever that the task brings.")
]
ValueOption = Annotated[
    str | None, typer.Option(help="What values thoughts: head, label, arithmetic, a .gguf file, or KIND:URL.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


_ONE_FORMAT = "--json and --markdown exclude each other; choose one"


@app.command()
def solve(
    problem: Annotated[str, typer.Argument(help="For example '4 9 10 13 : 24'.")],
    task: TaskOption = "game24",
    strategy: Annotated[str, typer.Option(help="See `rlm-agent strategies`; name:key=value,…")] = "mcts",
    model: ModelOption = "mini",
    value: ValueOption = None,
    tools: ToolsOption = True,
    retriever: RetrieverOption = True,
    budget_tokens: Annotated[int, typer.Option(help="Most generated tokens.")] = 4000,
    seed: Annotated[int | None, typer.Option(help="Decides every draw; drawn at random if missing.")] = None,
    as_json: JsonOption = False,
    save: Annotated[Path | None, typer.Option(help="Write the whole tree of thoughts to this file.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write every event of the search to this file, a line of JSON each.")
    ] = None,
) -> None:
    """Solve one problem and show the tree growing; exit code 1 where no answer was found, or a wrong one."""
    from rlm_agent.app.solving import solve_problem
    from rlm_agent.evaluation.files import require_place, write_rows, write_whole
    from rlm_agent.evaluation.traces import trace_rows

    for path in filter(None, (save, trace)):
        require_place(path)
    events: list[Event] = []
    with stoppable("nothing was saved"):
        result, tree = solve_problem(
            problem,
            task,
            strategy,
            model,
            budget_tokens,
            seed,
            value=value,
            tools=tools,
            retriever=retriever,
            show=not as_json,
            keep=save is not None,
            watch=events.append,
        )
    report = {
        "answer": result.answer,
        "verified": result.verified,
        "strategy": strategy,
        "model": model,
        "nodes": result.nodes,
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.completion_tokens,
        "model_calls": result.model_calls,
        "seconds": result.seconds,
        "stopped": result.stopped,
    }
    if save is not None:
        write_whole(save, json.dumps({**report, "problem": problem, "task": task, **tree}, indent=1))
    if trace is not None:
        write_rows(trace, trace_rows(result.question, events))
    if as_json:
        print(json.dumps(report))
    answered = result.answer is not None and result.verified is not False
    raise typer.Exit(0 if answered else 1)


@app.command("eval")
def evaluate(
    task: TaskOption = "game24",
    strategy: Annotated[
        list[str] | None, typer.Option(help="May be given several times; all for every strategy there is.")
    ] = None,
    model: ModelOption = "mini",
    n: Annotated[int, typer.Option(min=1, help="How many problems; fewer where a split has fewer.")] = 100,
    seed: Annotated[int, typer.Option(help="Draws the problems, and decides every search.")] = 0,
    value: ValueOption = None,
    tools: ToolsOption = True,
    retriever: RetrieverOption = True,
    budget_tokens: Annotated[
        list[int] | None,
        typer.Option(help="Most generated tokens for one problem (4000); may be given several times."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="The strategy to compare with, by default best_of_n of all or else the first."),
    ] = None,
    split: Annotated[str, typer.Option(help="test, or validation for tuning.")] = "test",
    problems: Annotated[
        str | None, typer.Option(help="FILE[:FIRST-LAST], a CSV with Puzzles or a JSONL, instead of a split.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that search side by side.")] = 1,
    as_json: JsonOption = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table in Markdown instead.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw accuracy against tokens into this .svg or .png file.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Keep results here; run again to go on after a stop.")
    ] = None,
    traces: Annotated[
        Path | None, typer.Option(help="Keep every event of the searches here, a line of JSON each.")
    ] = None,
) -> None:
    """Run strategies over problems; accuracy with its 95% interval, tokens and seconds a problem."""
    from rlm_agent.app.evaluating import evaluate_strategies
    from rlm_agent.evaluation.runs import Setup

    if as_json and as_markdown:
        raise InputError(_ONE_FORMAT)
    hint = (
        "run the same command again to go on" if out else "with --out FOLDER the next run can be gone on with"
    )
    with stoppable(hint):
        report = evaluate_strategies(
            Setup(task, model, value, seed, tools, retriever),
            strategy or ["mcts"],
            budget_tokens or [4000],
            baseline=baseline,
            n=n,
            split=split,
            source=problems,
            jobs=jobs,
            out=out,
            traces=traces,
            figure=plot,
            show=not as_json,
        )
    if as_json:
        print(json.dumps(report.json))
    elif as_markdown:
        print(report.markdown)
    else:
        Console().print(report.table)


@app.command()
def strategies(
    as_json: JsonOption = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a page of Markdown with their state machines.")
    ] = False,
) -> None:
    """List the strategies, their parameters and defaults."""
    from rlm_agent.app.listing import strategy_page, strategy_rows, strategy_table

    if as_json and as_markdown:
        raise InputError(_ONE_FORMAT)
    if as_json:
        print(json.dumps(strategy_rows()))
    elif as_markdown:
        print(strategy_page())
    else:
        Console().print(strategy_table())


@app.callback(invoke_without_command=True)
def version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Reasoning by search on small language models."""
    if version:
        from rlm_agent import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: any error of ours is one sentence on stderr and exit code 2; Ctrl-C is 130."""
    try:
        app()
    except RlmError as error:
        print(f"rlm-agent: {error}", file=sys.stderr)
        raise SystemExit(2) from None
