"""Many searches, one after the other here, or shared out to processes that each load the model."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from rlm_agent.evaluation.runs import Cell, Result, Setup, solve
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.structure.errors import ModelError, RlmError
from rlm_agent.structure.events import Event
from rlm_agent.tasks.registry import get_task
from rlm_agent.tasks.task import Problem

Job = tuple[Cell, Problem]
"""A cell and a problem: one search."""


@dataclass(frozen=True, slots=True)
class Done:
    """A search that has ended; `events` is empty unless traces were asked for."""

    cell: Cell
    result: Result
    events: list[Event]


if TYPE_CHECKING:
    Giver = Connection[Job, Done | RlmError]
    Taker = Connection[Done | RlmError, Job]
    Crew = dict[Giver, BaseProcess]


class Bench:
    """Runs the searches of a setup in this process; the reasoner of each cell is made once."""

    def __init__(self, setup: Setup, *, traced: bool = False) -> None:
        self._setup, self._traced = setup, traced
        self._task = get_task(setup.task)
        self._reasoners: dict[Cell, Reasoner] = {}

    def run(self, job: Job) -> Done:
        """One search from its beginning to its end."""
        cell, problem = job
        if cell not in self._reasoners:
            self._reasoners[cell] = self._setup.reasoner(cell)
        events: list[Event] = []
        watch = events.append if self._traced else lambda event: None
        return Done(cell, solve(self._reasoners[cell], self._task, problem, watch=watch), events)


def run_searches(
    setup: Setup, jobs: Sequence[Job], processes: int = 1, *, traced: bool = False
) -> Iterator[Done]:
    """Run searches, up to `processes` at a time, and yield each as it ends.

    A search depends on its setup, cell and question alone, so that the number of processes changes no result.
    With one, everything happens here and in the order of `jobs`. Raises what a search raises, and
    `ModelError` where a process ends by itself. However the iterator is left, no process stays.
    """
    count = min(processes, len(jobs))
    if count > 1:
        with _crew(count, setup, traced) as crew:
            yield from _share_out(jobs, crew)
    else:
        yield from map(Bench(setup, traced=traced).run, jobs)


def _share_out(jobs: Sequence[Job], crew: "Crew") -> Iterator[Done]:
    """Give everyone in the crew a job, and the next one to whoever is done."""
    waiting = iter(jobs)
    for giver, job in zip(crew, waiting, strict=False):
        giver.send(job)
    busy = list(crew)
    while busy:
        ready = wait(busy)
        for giver in [giver for giver in busy if giver in ready]:
            done = _receive(giver, crew[giver])
            following = next(waiting, None)
            if following is None:
                busy.remove(giver)
            else:
                giver.send(following)
            yield done


def _receive(giver: "Giver", process: BaseProcess) -> Done:
    try:
        reply = giver.recv()
    except (EOFError, OSError) as error:
        process.join(1)
        raise ModelError(
            f"a process that searched has ended by itself (exit code {process.exitcode}); "
            "run again, with fewer jobs where memory is short"
        ) from error
    if isinstance(reply, RlmError):
        raise reply
    return reply


@contextmanager
def _crew(count: int, setup: Setup, traced: bool) -> "Iterator[Crew]":
    """So many processes that wait for jobs, by the connections to them; they end with the block."""
    context = multiprocessing.get_context("spawn")
    crew: Crew = {}
    try:
        for number in range(count):
            giver, taker = context.Pipe()
            arguments = (taker, setup, traced, _share_of_cores(number, count))
            process = context.Process(target=_work, args=arguments, daemon=True)
            with _interrupts_put_off():
                process.start()
                crew[giver] = process
            taker.close()
        yield crew
    finally:
        for member in crew.values():
            member.terminate()
        for giver, member in crew.items():
            member.join()
            giver.close()


def _work(taker: "Taker", setup: Setup, traced: bool, cores: list[int]) -> None:
    """The life of a process of the crew: a job comes in, how it ended goes out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if cores:
        os.sched_setaffinity(0, cores)
    bench = Bench(setup, traced=traced)
    with suppress(EOFError, BrokenPipeError):  # nobody is there any more who would want the reply
        while True:
            job = taker.recv()
            try:
                taker.send(bench.run(job))
            except RlmError as error:
                taker.send(error)


def _share_of_cores(number: int, count: int) -> list[int]:
    """The cores for one of `count` processes; [] for all.

    Each then computes with as many threads as it has cores: threads of several processes on one core would
    wait for each other.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return cores[number::count]


@contextmanager
def _interrupts_put_off() -> Iterator[None]:
    """Ctrl-C is heard after the block, and never by a process that is started in it."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
