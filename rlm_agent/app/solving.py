"""`rlm-agent solve`: one search, shown as a tree while it grows."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from langchain_core.runnables import RunnableConfig
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.tree import Tree

from rlm_agent.evaluation.runs import Result, solve
from rlm_agent.evaluation.strategies import make_reasoner, means_of, parse_strategy
from rlm_agent.graphs.reasoner import memory_saver
from rlm_agent.structure.budget import Budget
from rlm_agent.structure.errors import RlmError
from rlm_agent.structure.events import Event, ThoughtEvent
from rlm_agent.tasks.registry import get_task
from rlm_agent.tasks.task import Problem

_STYLES = {"step": "", "final": "bold", "failed": "dim"}
_THREAD: RunnableConfig = {"configurable": {"thread_id": "solve"}}


def solve_problem(
    problem: str,
    task_name: str,
    strategy: str,
    model: str,
    budget_tokens: int,
    seed: int | None,
    *,
    value: str | None,
    tools: bool = True,
    retriever: bool = True,
    show: bool,
    keep: bool,
    watch: Callable[[Event], None] = lambda event: None,
) -> tuple[Result, dict[str, Any]]:
    """Solve and, with `show`, draw; with `keep`, the tree comes back beside the result.

    `tools` and `retriever` say whether the search is given those that the task brings.
    `watch` sees every event of the search as it happens.
    """
    task = get_task(task_name)
    question = task.steps.read(problem)
    chosen = parse_strategy(strategy)
    options = means_of(task, tools=tools, retriever=retriever)
    if keep:
        options["checkpointer"] = memory_saver()
    budget = Budget(tokens=budget_tokens)
    reasoner = make_reasoner(chosen, task, model, budget, seed, value, **options)
    drawing = TreeDrawing(question)
    console = Console(file=sys.stdout)

    def see(event: Event) -> None:
        drawing.see(event)
        watch(event)

    with _shown(drawing.tree, console) if show else nullcontext():
        result = solve(reasoner, task, Problem(question), config=_THREAD if keep else None, watch=see)
    if show:
        _say(console, result)
    return result, _kept(reasoner.get_state(_THREAD).values) if keep else {}


@contextmanager
def _shown(tree: Tree, console: Console) -> Iterator[None]:
    with Live(tree, console=console, refresh_per_second=8) as live:
        try:
            yield
        except RlmError:
            live.transient = True  # what failed leaves nothing on standard output
            raise


class TreeDrawing:
    """A terminal tree that grows with the events of a search."""

    def __init__(self, question: str) -> None:
        self.tree = Tree(f"[bold]{escape(question)}[/bold]")
        self._branches: dict[str, Tree] = {}

    def see(self, event: Event) -> None:
        """Add the thought that an event tells of; other events change nothing."""
        if event["event"] == "thought":
            self._add(event)

    def _add(self, thought: ThoughtEvent) -> None:
        parent = self._branches.get(thought["parent"] or "", self.tree)
        label = escape(thought["text"])
        if thought["reason"] is not None:
            label += f" ({escape(thought['reason'])})"
        if thought["kind"] == "final":
            label += " ✓" if thought["value"] == 1.0 else " ✗" if thought["value"] == 0.0 else ""
        style = "bold green" if thought["value"] == 1.0 else _STYLES.get(thought["kind"], "")
        self._branches[thought["id"]] = parent.add(label, style=style)


def _say(console: Console, result: Result) -> None:
    if result.verified:
        console.print(f"[bold green]{escape(str(result.answer))}[/bold green]  (verified)")
    elif result.answer is not None and result.verified is None:
        console.print(f"[bold]{escape(result.answer)}[/bold]  (nothing can verify it)")
    elif result.answer is not None:
        console.print(f"{escape(result.answer)}  (not right; stopped: {result.stopped})")
    else:
        console.print(f"No answer was found (stopped: {result.stopped}).")
    console.print(
        f"{result.nodes} thoughts, {result.completion_tokens} generated tokens, "
        f"{result.model_calls} model calls, {result.seconds:.2f} s",
        style="dim",
    )


def _kept(values: dict[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in ("run", "usage", "thoughts", "stats")}
