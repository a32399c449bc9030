"""Rounds in which contenders take turns, so that a slow minute of the machine falls on all of them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

from rlm_agent.bench.contenders.base import Contender
from rlm_agent.bench.workload import LENGTH, Tree, make_tree
from rlm_agent.structure.errors import DecodeError

Rates = dict[str, list[float]]
"""Of each contender by name: generated tokens per second, one number a round."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A contender's turn in a round, counted from 0, and how many tokens per second it made."""

    round: int
    contender: str
    rate: float


def race(
    contenders: Sequence[Contender],
    trees: Sequence[Tree],
    rounds: int,
    report: Callable[[Turn], None] = lambda turn: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Rates:
    """Let all contenders write all trees in each round, another one being the first every time.

    Each is opened, warmed up and emptied before its turn and closed after it: that takes no time here, and
    nobody is in another's way. Each turn has a thread of its own, with which OpenMP's pool of threads ends: a
    second pool in the process slows down the first. Raises `DecodeError` where one does not write what was
    asked.
    """
    rates: Rates = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in rotated(contenders, number):
            with ThreadPoolExecutor(1) as turn:
                seconds = turn.submit(_seconds, contender, trees, clock).result()
            rate = sum(tree.tokens for tree in trees) / seconds
            rates[contender.name].append(rate)
            report(Turn(number, contender.name, rate))
    return rates


def rotated(contenders: Sequence[Contender], number: int) -> Iterator[Contender]:
    """All contenders in turn, beginning with another one in each round."""
    for place in range(len(contenders)):
        yield contenders[(place + number) % len(contenders)]


def summary(rates: Rates, about: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each contender: its median rate, the lowest and the highest, and how it was set."""
    return [
        {
            "contender": name,
            "tokens_per_second": round(median(values), 1),
            "min": round(min(values), 1),
            "max": round(max(values), 1),
            "about": about[name],
        }
        for name, values in rates.items()
    ]


def ratios(rates: Rates, of: Sequence[str], to: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """For each of `of` its median over that of the fastest of each group of `to`.

    `to` gives groups a name, under which the ratio comes back. Who did not run is left out.
    """
    medians = {name: median(values) for name, values in rates.items()}
    groups = {label: [medians[name] for name in names if name in medians] for label, names in to.items()}
    return {
        name: {label: round(medians[name] / max(group), 3) for label, group in groups.items() if group}
        for name in of
        if name in medians
    }


def _seconds(contender: Contender, trees: Sequence[Tree], clock: Callable[[], float]) -> float:
    contender.open()
    try:
        contender.play([_warming(trees[0])])
        contender.forget()
        started = clock()
        written = contender.play(trees)
        seconds = clock() - started
    finally:
        contender.close()
    for tree, texts in zip(trees, written, strict=True):
        if sum(map(len, texts)) != tree.tokens or any(len(text) != LENGTH for text in texts):
            raise DecodeError(f"{contender.name} did not write {tree.tokens} tokens; its time tells nothing")
    return seconds


def _warming(tree: Tree) -> Tree:
    """A tree of one expansion over a few of another's tokens."""
    return make_tree(tree.prompt, prompt=4, branches=4, expansions=1)
