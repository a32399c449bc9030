"""Threads of batches on a machine whose cores others take, by a clock that only batches move."""

from collections.abc import Callable

import pytest

from rlm_agent.models.gguf.engine.pace import Pace


class Machine:
    """Batches take what is said; `threads` is what they were last given."""

    def __init__(self) -> None:
        self.now = 0.0
        self.threads = 4
        self.pace = Pace(4, self._use, lambda: self.now)

    def _use(self, threads: int) -> None:
        self.threads = threads

    def run(self, batches: int, seconds: float, rows: int = 4) -> None:
        for _ in range(batches):
            with self.pace.batch(rows):
                self.now += seconds

    def run_until(self, wanted: Callable[[], bool], seconds: float) -> float:
        began = self.now
        while not wanted():
            self.run(1, seconds)
        return self.now - began


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.run(50, 0.001)
    assert machine.threads == 4
    return machine


def test_one_stall_costs_threads_for_a_second(machine: Machine) -> None:
    machine.run(1, 0.15)
    assert machine.threads == 1
    assert machine.run_until(lambda: machine.threads == 4, 0.002) == pytest.approx(1, abs=0.01)


def test_many_small_delays_add_up(machine: Machine) -> None:
    machine.run(40, 0.004)
    assert machine.threads == 1


def test_rare_delays_and_slowly_growing_batches_are_forgiven(machine: Machine) -> None:
    for _ in range(100):
        machine.run(1, 0.02)
        machine.run(50, 0.001)
    for step in range(1000):
        machine.run(5, 0.001 * 1.005**step)
    assert machine.threads == 4


def test_batches_of_other_sizes_have_times_of_their_own(machine: Machine) -> None:
    machine.run(20, 0.1, rows=60)
    assert machine.threads == 4


def test_pauses_double_while_the_cores_stay_busy_and_begin_anew_later(machine: Machine) -> None:
    pauses = []
    for _ in range(8):
        machine.run(1, 0.15)
        assert machine.threads == 1
        pauses.append(round(machine.run_until(lambda: machine.threads == 4, 0.002)))
    assert pauses == [1, 2, 4, 8, 16, 32, 32, 32]
    machine.run(40_000, 0.001)
    machine.run(1, 0.15)
    assert round(machine.run_until(lambda: machine.threads == 4, 0.002)) == 1


def test_time_without_batches_counts_as_a_pause(machine: Machine) -> None:
    machine.run(1, 0.15)
    machine.now += 1
    machine.run(1, 0.001)
    assert machine.threads == 4


def test_a_batch_that_fails_is_not_judged(machine: Machine) -> None:
    def fail() -> None:
        with machine.pace.batch(4):
            machine.now += 10
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert machine.threads == 4
