"""Tasks by name: what a specialist model is good at, what `solve` and `eval` run."""

import csv
import json
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rlm_agent.structure.errors import ProblemError, UnknownNameError
from rlm_agent.structure.steps import Steps
from rlm_agent.tasks.answers import finished
from rlm_agent.tasks.catalogue import generator as catalogue
from rlm_agent.tasks.catalogue.lookup import CatalogueRetriever
from rlm_agent.tasks.countdown.checker import answer, check_step, verify
from rlm_agent.tasks.countdown.coat import coat_steps
from rlm_agent.tasks.countdown.generator import draw_countdown, draw_five, draw_five24, draw_game24
from rlm_agent.tasks.countdown.moves import solvable
from rlm_agent.tasks.countdown.puzzle import EXAMPLE, MAX_NUMBERS, Puzzle, Split, parse
from rlm_agent.tasks.task import Problem, Task
from rlm_agent.tasks.words import generator as words
from rlm_agent.tools.calculator import Calculator

__all__ = ["TASKS", "Problem", "Task", "get_task", "read_problems", "read_puzzle"]

_LINE_TOKENS = 24
_CALCULATED = Steps(max_tokens=48, max_steps=32, answer=finished)
_RANGE = re.compile(r"(.*?)(?::([0-9]{1,9})-([0-9]{1,9}))?", re.DOTALL)


def get_task(name: str) -> Task:
    """The task of that name; `UnknownNameError` lists those there are."""
    if name not in TASKS:
        raise UnknownNameError(f"there is no task {name!r}; choose one of {', '.join(TASKS)}")
    return TASKS[name]


def read_puzzle(text: str, *, target: int | None = None) -> str:
    """The canonical text of a puzzle; `ProblemError` where it is none or has no solution."""
    puzzle = parse(text, target=target)
    if solvable(puzzle.numbers, puzzle.target) is False:
        raise ProblemError(f"{puzzle.text!r} has no solution; try other numbers or another target")
    return puzzle.text


def read_problems(source: str) -> list[str]:
    """The canonical texts of the puzzles in `FILE` or, counted from 1, in `FILE:FIRST-LAST`.

    A CSV has the column `Puzzles` (numbers, target 24); JSONL has `{"numbers": […], "target": …}` a line.
    Raises `ProblemError` where the file cannot be read or does not have all of the range.
    """
    name, first, last = _RANGE.fullmatch(source).groups()  # type: ignore[union-attr]
    problems = _read_file(Path(name))
    if not problems:
        raise ProblemError(f"{name} holds no puzzle; name another file")
    begin, end = int(first or 1), int(last or len(problems))
    if not 1 <= begin <= end <= len(problems):
        raise ProblemError(f"{source} names no puzzles; choose a range within 1-{len(problems)}")
    return problems[begin - 1 : end]


def _read_file(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            read = _jsonl if path.suffix in (".jsonl", ".json") else _csv
            return list(read(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ProblemError(f"{path} cannot be read ({error}); name a CSV or JSONL file") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ProblemError):
            raise
        raise ProblemError(
            f"{path} has a line that is no puzzle; a CSV needs the column Puzzles, a JSONL numbers and target"
        ) from error


def _csv(stream: Iterator[str]) -> Iterator[str]:
    for row in csv.DictReader(stream):
        yield parse(row["Puzzles"], target=24).text


def _jsonl(stream: Iterator[str]) -> Iterator[str]:
    for line in stream:
        if line.strip():
            row = json.loads(line)
            if not isinstance(row["numbers"], list):
                raise TypeError("numbers is no list")
            yield parse(f"{' '.join(map(str, row['numbers']))} : {row['target']}").text


def _countdown_task(
    name: str,
    title: str,
    draw: Callable[[Split, random.Random], Iterator[Puzzle]],
    target: int | None,
    example: str = EXAMPLE,
) -> Task:
    read = partial(read_puzzle, target=target)
    steps = Steps(
        max_tokens=_LINE_TOKENS, max_steps=MAX_NUMBERS - 1, read=read, check=check_step, answer=answer
    )
    return Task(name, title, example, steps, verify, draw, coat_steps(read))


TASKS = {
    task.name: task
    for task in (
        _countdown_task("game24", "Game of 24: reach 24 from four numbers", draw_game24, 24),
        _countdown_task("countdown", "Countdown: reach a target from n numbers", draw_countdown, None),
        _countdown_task("five24", "Countdown: 24 from five numbers", draw_five24, 24, "3 3 6 9 13 : 24"),
        _countdown_task("five", "Countdown: a target from five numbers", draw_five, None, "2 3 3 6 12 : 78"),
        Task(
            "words",
            "Word problems of several calculations",
            words.EXAMPLE,
            _CALCULATED,
            None,
            words.draw_words,
            tools=(Calculator(),),
        ),
        Task(
            "catalogue",
            "Word problems whose numbers stand in a catalogue",
            catalogue.EXAMPLE,
            _CALCULATED,
            None,
            catalogue.draw_catalogue,
            tools=(Calculator(),),
            retriever=CatalogueRetriever,
        ),
    )
}
