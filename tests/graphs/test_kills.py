"""Killed at any moment, a search goes on in another process to the same end, and asks nothing twice."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.graphs.killing import BUFFERED, SCENES, Job, fates, killed, unbroken

FEW = ("mcts_parallel", "graph_of_thoughts")


def survive(store: str, folder: Path, runs: int, scenes: Sequence[str] = tuple(SCENES)) -> None:
    """Kill so many searches, each at another moment."""
    for job, fate in fates(store, str(folder), runs, runs, scenes):
        assert not fate.faults, (job, fate)


def test_killed_searches_end_the_same(tmp_path: Path) -> None:
    survive(str(tmp_path / "threads.db"), tmp_path, 4, FEW)


def test_killed_searches_end_the_same_whose_supersteps_are_committed_in_groups(tmp_path: Path) -> None:
    survive(f"{BUFFERED}{tmp_path / 'threads.db'}", tmp_path, 4, FEW)


def test_killed_searches_end_the_same_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    survive(postgres_url, tmp_path, 2, ["beam_search"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", BUFFERED])
def test_searches_killed_many_times_end_the_same(kind: str, tmp_path: Path) -> None:
    survive(f"{kind}{tmp_path / 'threads.db'}", tmp_path, 200)


@pytest.mark.slow
def test_searches_killed_many_times_end_the_same_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    survive(postgres_url, tmp_path, 50)


def test_what_is_asked_twice_is_noticed(tmp_path: Path) -> None:
    """One that goes on from the oldest checkpoint finds the same, but asks again what was stored."""
    job = Job("beam_search", str(tmp_path / "threads.db"), "1", str(tmp_path))
    reference = unbroken(replace(job, thread="whole"))
    late = replace(reference, seconds=0.7 * reference.seconds)

    class Late(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    fate = killed(replace(job, forgets=True), late, Late())
    assert "what was stored and what was asked later are not what an unbroken search asks" in fate.faults
