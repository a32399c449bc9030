"""One search on one problem, and how it ended."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from langchain_core.runnables import RunnableConfig

from rlm_agent.evaluation.files import append_rows, read_rows, write_rows
from rlm_agent.evaluation.strategies import make_reasoner, means_of, parse_strategy
from rlm_agent.graphs.machine.common import Model
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.tracing import trace
from rlm_agent.models.resolve import load_policy, load_value
from rlm_agent.structure.budget import Budget
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.structure.events import Event
from rlm_agent.tasks.registry import get_task
from rlm_agent.tasks.task import Problem, Task


@dataclass(frozen=True, slots=True)
class Result:
    """How one search ended.

    `verified` says whether the answer is right, by the task's verifier or by the gold answer, which the
    search has not seen; None where neither is known.
    """

    question: str
    answer: str | None
    verified: bool | None
    stopped: str
    nodes: int
    prompt_tokens: int
    completion_tokens: int
    model_calls: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of a comparison: a strategy, written as text, and the most tokens it may generate a problem."""

    strategy: str
    budget_tokens: int

    @property
    def name(self) -> str:
        """What tells the cell from others, in a line."""
        return f"{self.strategy}@{self.budget_tokens}"


@dataclass(frozen=True, slots=True)
class Setup:
    """What all searches of a comparison have in common: task, model, value and seed.

    `tools` and `retriever` say whether the searches are given those that the task brings.
    """

    task: str
    model: Model
    value: str | None
    seed: int | None
    tools: bool = True
    retriever: bool = True

    def check(self) -> None:
        """Raise what is wrong with the task, the model or the value, whatever the strategy."""
        task = get_task(self.task)
        load_value(self.value, load_policy(self.model), task.steps, task.verifier)

    def reasoner(self, cell: Cell) -> Reasoner:
        """The reasoner of a cell; raises what `make_reasoner` raises."""
        strategy, budget = parse_strategy(cell.strategy), Budget(tokens=cell.budget_tokens)
        task = get_task(self.task)
        means = means_of(task, tools=self.tools, retriever=self.retriever)
        return make_reasoner(strategy, task, self.model, budget, self.seed, self.value, **means)


def solve(
    reasoner: Reasoner,
    task: Task,
    problem: Problem,
    *,
    config: RunnableConfig | None = None,
    watch: Callable[[Event], None] = lambda event: None,
) -> Result:
    """Run a reasoner on one problem; `watch` sees every event of the search as it happens."""
    last: Event | None = None
    for last in trace(reasoner, problem.text, config=config):
        watch(last)
    assert last is not None
    assert last["event"] == "answer"
    answer, usage = last["answer"], last["usage"]
    return Result(
        question=problem.text,
        answer=answer,
        verified=task.grade(problem, answer),
        stopped=last["stopped"],
        nodes=usage["nodes"],
        prompt_tokens=usage["prompt_tokens"] + usage["cached_tokens"],
        completion_tokens=usage["completion_tokens"],
        model_calls=usage["model_calls"],
        seconds=round(usage["seconds"], 4),
    )


class ResultLog:
    """Results by question, in a file too where there is one: a line of JSON a result."""

    def __init__(self, path: Path | None = None) -> None:
        """Open a file or begin one; raises `CheckpointError` where it has a line that is no result."""
        self._path = path
        try:
            results = [Result(**row) for row in read_rows(path)] if path is not None else []
        except TypeError as error:
            raise CheckpointError(f"{path} has a line that is no result; name another folder") from error
        self._results = {result.question: result for result in results}

    def __contains__(self, question: str) -> bool:
        return question in self._results

    def add(self, result: Result) -> None:
        """Keep a result, unless there is one of its question already."""
        if result.question not in self._results:
            self._results[result.question] = result
            if self._path is not None:
                append_rows(self._path, [asdict(result)])

    def of(self, questions: Sequence[str]) -> list[Result]:
        """The results of some questions, in their order; those that are missing are left out."""
        return [self._results[question] for question in questions if question in self._results]

    def sort(self, questions: Sequence[str]) -> None:
        """Bring the file into the order of all its questions."""
        ordered = list(dict.fromkeys(questions))
        if self._path is not None and list(self._results) != ordered:
            self._results = {question: self._results[question] for question in ordered}
            write_rows(self._path, map(asdict, self._results.values()))
