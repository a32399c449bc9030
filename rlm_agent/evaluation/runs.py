"""One strategy on one problem, and many on many: resumable, one JSON line a problem."""

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from langchain_core.runnables import RunnableConfig

from rlm_agent.evaluation.metrics import wilson
from rlm_agent.graphs.common import Common
from rlm_agent.graphs.reasoner import create_reasoner, get_strategy, parameters_of
from rlm_agent.graphs.skeleton import Reasoner
from rlm_agent.structure.budget import Budget
from rlm_agent.structure.errors import CheckpointError, InputError
from rlm_agent.structure.events import Event
from rlm_agent.tasks.registry import Task

_COMMON = ("temperature", "top_k", "top_p", "min_p", "stop_when_verified")
"""The keywords of all strategies that make sense as text."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one search ended; `verified` is what the task's verifier says of the answer."""

    question: str
    answer: str | None
    verified: bool
    stopped: str
    nodes: int
    prompt_tokens: int
    completion_tokens: int
    model_calls: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy with its parameters, written `name` or `name:key=value,key=value`."""

    text: str
    name: str
    parameters: dict[str, Any]


def parse_strategy(text: str) -> Strategy:
    """Read `best_of_n:n=64,parallel=1`; `InputError` where a parameter is not `key=value`."""
    name, _, rest = text.partition(":")
    parameters = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{part!r} in {text!r} is no parameter; write name:key=value,key=value")
        parameters[key.strip()] = _value(value.strip())
    return Strategy(text, name, parameters)


def make_reasoner(
    strategy: Strategy, task: Task, model: str, budget: Budget, seed: int | None, **options: Any
) -> Reasoner:
    """The reasoner of a strategy on a task, with the task's steps and verifier.

    Raises `InputError` for a parameter that cannot be given as text or whose value is of another kind.
    """
    _check_kinds(strategy)
    return create_reasoner(
        strategy.name,
        model,
        steps=task.steps,
        verifier=task.verifier,
        budget=budget,
        seed=seed,
        **options,
        **strategy.parameters,
    )


def solve(
    reasoner: Reasoner,
    task: Task,
    question: str,
    *,
    config: RunnableConfig | None = None,
    watch: Callable[[Event], None] = lambda event: None,
) -> Result:
    """Run a reasoner on one problem; `watch` sees every event of the search as it happens."""
    messages = {"messages": [("user", question)]}
    last: Event | None = None
    for event in reasoner.stream(messages, config, stream_mode="custom"):
        last = cast("Event", event)
        watch(last)
    assert last is not None
    assert last["event"] == "answer"
    answer, usage = last["answer"], last["usage"]
    return Result(
        question=question,
        answer=answer,
        verified=answer is not None and task.verifier(question, answer).correct,
        stopped=last["stopped"],
        nodes=usage["nodes"],
        prompt_tokens=usage["prompt_tokens"] + usage["cached_tokens"],
        completion_tokens=usage["completion_tokens"],
        model_calls=usage["model_calls"],
        seconds=round(usage["seconds"], 4),
    )


def evaluate_strategy(
    reasoner: Reasoner, task: Task, problems: Sequence[str], log: Path | None = None
) -> Iterator[Result]:
    """Results in the order of `problems`; with a `log`, problems that it holds are not run again."""
    known = _read_log(log, problems) if log is not None else []
    yield from known
    for question in problems[len(known) :]:
        result = solve(reasoner, task, question)
        if log is not None:
            with log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(result)) + "\n")
        yield result


def summary(strategy: str, results: Sequence[Result]) -> dict[str, Any]:
    """The row of a report: accuracy with its 95% interval, tokens and seconds a problem."""
    count = len(results)
    solved = sum(result.verified for result in results)
    return {
        "strategy": strategy,
        "accuracy": solved / count,
        "ci95": [round(end, 4) for end in wilson(solved, count)],
        "completion_tokens_mean": round(sum(r.completion_tokens for r in results) / count, 1),
        "seconds_mean": round(sum(r.seconds for r in results) / count, 4),
    }


def require_place(path: Path) -> None:
    """`InputError` where no file can be written at `path`; asked before a search, it spares the search."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"{path} cannot be written; name a file in an existing folder")


def open_log(folder: Path, settings: dict[str, Any], strategy: str) -> Path:
    """The log of a strategy in a folder, made where it is missing.

    Raises `CheckpointError` where the folder holds a run with other settings, `InputError` where it cannot
    be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}); name another folder") from error
    path = folder / "settings.json"
    if not path.exists():
        require_place(path)
        write_whole(path, json.dumps(settings, indent=2))
    elif _read_settings(path) != settings:
        raise CheckpointError(f"{folder} holds a run with other settings; name another folder")
    return folder / (re.sub(r"[^\w.=-]+", "_", strategy) + ".jsonl")


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read_log(log: Path, problems: Sequence[str]) -> list[Result]:
    """The results that a log holds; a last line that was cut off is dropped from the file."""
    if not log.exists():
        return []
    whole, _, _ = log.read_text(encoding="utf-8").rpartition("\n")
    lines = whole.splitlines()
    write_whole(log, whole) if lines else log.unlink()
    try:
        results = [Result(**json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{log} has a line that is no result; name another folder") from error
    if [result.question for result in results] != list(problems[: len(results)]):
        raise CheckpointError(f"{log} holds other problems; name another folder")
    return results


def _read_settings(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read; name another folder") from error


def _check_kinds(strategy: Strategy) -> None:
    create = get_strategy(strategy.name)
    hints = {**get_type_hints(create), **get_type_hints(Common)}
    kinds = {name: hints[name] for name in (*parameters_of(create), *_COMMON)}
    for name, value in strategy.parameters.items():
        if name not in kinds and name in (*hints, "strategy"):
            raise InputError(f"{name!r} in {strategy.text!r} cannot be given as text; use Python for it")
        if name in kinds and not _fits(value, kinds[name]):
            raise InputError(f"{name}={value} in {strategy.text!r} does not fit; give {_words(kinds[name])}")


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if alternatives := get_args(kind):
        return any(_fits(value, alternative) for alternative in alternatives)
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and not math.isnan(value)
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if alternatives := get_args(kind):
        return " or ".join(map(_words, alternatives))
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}.get(kind, "none")


def _value(text: str) -> Any:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)
