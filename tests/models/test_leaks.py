"""Jobs that come, end, are cancelled and released in any order leave no sequence and no cell behind."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from rlm_agent.models.gguf.engine.adapters import Adapters
from rlm_agent.models.gguf.engine.cache import Cache
from rlm_agent.models.gguf.engine.calls import Call
from rlm_agent.models.gguf.engine.cells import MAX_SEQUENCES
from rlm_agent.models.gguf.engine.context import EXACT_BATCH, Context
from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.models.gguf.engine.nodes import Node
from rlm_agent.models.gguf.engine.scheduler import Scheduler
from rlm_agent.models.gguf.file import ModelFile

LONGEST, CELLS, PARALLEL = 40, 96, 6
PROMPTS = st.lists(st.sampled_from([5, 6]), min_size=1, max_size=30).map(tuple)
JOBS = st.builds(
    Job,
    prompt=PROMPTS,
    max_tokens=st.integers(0, 10),
    seed=st.integers(0, 3),
    ends=st.booleans(),
    hidden=st.booleans(),
)


@pytest.fixture(params=[1, 16], scope="module")
def parts(request: pytest.FixtureRequest, tiny: Path) -> Iterator[tuple[ModelFile, Context]]:
    file = ModelFile(tiny)
    page = request.param
    context = Context(file, cells=CELLS, batch=EXACT_BATCH, threads=1, flash_attention=page == 1, page=page)
    yield file, context
    context.close()
    file.close()


def path(node: Node | None) -> tuple[int, ...]:
    """The tokens from the root down to a node."""
    return () if node is None else (*path(node.parent), *node.tokens)


class Machine(RuleBasedStateMachine):
    """A scheduler over one context, which is cleared for each run."""

    file: ModelFile
    context: Context

    @initialize()
    def begin(self) -> None:
        self.cache = Cache(self.context, Adapters(self.file, self.context, {}), memory=4000)
        self.scheduler = Scheduler(self.file, self.cache, parallel=PARALLEL, longest=LONGEST)
        self.calls: list[Call] = []

    @rule(jobs=st.lists(JOBS, min_size=1, max_size=8))
    def submit(self, jobs: list[Job]) -> None:
        self.calls.append(Call(jobs))
        self.scheduler.submit(self.calls[-1])

    @rule(steps=st.sampled_from([1, 3, 10, 40]))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            if self.scheduler.busy:
                self.scheduler.step()

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.calls:
            data.draw(st.sampled_from(self.calls)).future.cancel()

    @rule(data=st.data(), keep=st.integers(0, 30))
    def release(self, data: st.DataObject, keep: int) -> None:
        if idle := sorted(self.cache._tree._idle):
            node = self.cache._tree._ends[data.draw(st.sampled_from(idle))]
            tokens = path(node)
            self.cache.release(tokens, min(keep, len(tokens) - 1), None)

    @rule(rows=st.integers(1, 40))
    def evict(self, rows: int) -> None:
        self.cache.make_room(rows)

    @invariant()
    def context_holds_what_the_books_say(self) -> None:
        held = {s: len(tokens) for s, tokens, _ in self.cache.live()}
        held |= {s: self.cache._tree._ends[s].end for s in self.cache._tree._idle}
        last = self.context._lib.llama_memory_seq_pos_max
        cells = self.context.cells
        for sequence in range(cells._sequences):
            assert last(cells._memory, sequence) == held.get(sequence, 0) - 1
        assert cells.free_sequences == cells._sequences - len(held)
        assert set(self.cache._tree._ends) <= set(held)
        assert 0 <= cells.room <= CELLS
        begun = {s for s, tokens, _ in self.cache.live() if len(tokens) % cells.pages.size}
        assert set(cells.pages._begun) == begun
        assert len(cells.pages._free) == len(cells.pages._keepers) - len(begun)
        for keeper in cells.pages._free:
            assert last(cells._memory, keeper) == -1

    def teardown(self) -> None:
        """In the end all calls are answered, and all cells can be had again."""
        while self.scheduler.busy:
            self.scheduler.step()
        for call in self.calls:
            try:
                results = call.future.result(timeout=0)
            except CancelledError:
                continue
            for job, result in zip(call.jobs, results, strict=True):
                assert result.error is None
                assert len(result.tokens) <= job.max_tokens
        assert self.cache.make_room(CELLS)
        assert self.context.cells.room == CELLS
        assert self.context.cells.free_sequences == self.context.cells._sequences <= MAX_SEQUENCES


def run(parts: tuple[ModelFile, Context], moves: settings) -> None:
    class Bound(Machine):
        file, context = parts

    run_state_machine_as_test(Bound, settings=moves)


def test_nothing_leaks(parts: tuple[ModelFile, Context]) -> None:
    run(parts, settings(max_examples=60, stateful_step_count=25, deadline=None))


@pytest.mark.slow
def test_nothing_leaks_in_ten_thousand_moves(parts: tuple[ModelFile, Context]) -> None:
    run(parts, settings(max_examples=250, stateful_step_count=50, deadline=None))
