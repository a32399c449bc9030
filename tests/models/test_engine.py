"""The engine among many callers: nobody waits for ever, nobody harms another, nothing leaks."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest

from rlm_agent.models.gguf.engine.calls import Call, Heard
from rlm_agent.models.gguf.engine.cells import Row
from rlm_agent.models.gguf.engine.context import Computed, Context
from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job, Result
from rlm_agent.models.protocols import Decoding
from rlm_agent.structure.errors import DecodeError, InputError

GREEDY = Decoding(temperature=0)


def prompt(number: int, length: int = 12) -> tuple[int, ...]:
    return tuple(5 + (number * 31 + position * position) % 250 for position in range(length))


def jobs(count: int, *, tokens: int = 8, length: int = 12) -> list[Job]:
    return [Job(prompt(i // 2, length), tokens, seed=i, ends=False) for i in range(count)]


def content(results: Sequence[Result]) -> list[tuple[object, ...]]:
    return [(r.tokens, r.text, r.logprob, r.finish, r.error, r.computed + r.cached) for r in results]


def fresh(path: Path, asked: Sequence[Job]) -> list[tuple[object, ...]]:
    """What the jobs bring one by one, nothing cached."""
    engine = Engine(path)
    found = []
    for job in asked:
        engine.forget()
        found += content(engine.complete([job]))
    engine.close()
    return found


@pytest.fixture
def engine(tiny: Path) -> Iterator[Engine]:
    engine = Engine(tiny)
    yield engine
    engine.close()


def test_threads_and_event_loops_share_one_engine(tiny: Path, engine: Engine) -> None:
    asked = jobs(48)
    parts = [asked[start : start + 6] for start in range(0, 48, 6)]

    async def from_a_loop(part: list[Job]) -> list[Result]:
        halves = await asyncio.gather(engine.acomplete(part[:3]), engine.acomplete(part[3:]))
        return [*halves[0], *halves[1]]

    def from_a_thread(index: int) -> list[Result]:
        part = parts[index]
        return asyncio.run(from_a_loop(part)) if index % 2 else engine.complete(part)

    with ThreadPoolExecutor(8) as pool:
        found = [result for part in pool.map(from_a_thread, range(8)) for result in part]
    assert content(found) == fresh(tiny, asked)


def test_more_branches_than_sequences_wait_their_turn(engine: Engine) -> None:
    asked = [Job(prompt(i, 5), 2, seed=i, ends=False) for i in range(600)]
    results = engine.complete(asked)
    assert [len(result.tokens) for result in results] == [2] * 600


@pytest.mark.parametrize("context", [100, 150, 400])
def test_full_cache_parks_jobs_and_changes_nothing(tiny: Path, context: int) -> None:
    asked = jobs(40, tokens=50, length=40)
    engine = Engine(tiny, context=context)
    assert content(engine.complete(asked)) == fresh(tiny, asked)
    engine.close()


def test_prompt_that_is_too_long_is_told_by_how_much_and_harms_nobody(engine: Engine) -> None:
    good, bad = jobs(2), Job(prompt(3, 259), 5)
    results = engine.complete([good[0], bad, good[1]])
    assert results[1].finish == "error"
    assert "259 tokens, 4 too many" in str(results[1].error)
    assert content([results[0], results[2]]) == content(engine.complete(good))


def test_prompt_that_just_fits_is_cut_off_by_the_context(engine: Engine) -> None:
    (result,) = engine.complete([Job(prompt(3, 250), 50, ends=False)])
    assert (result.finish, len(result.tokens)) == ("length", 6)


def test_empty_prompts_and_no_jobs(engine: Engine) -> None:
    assert engine.complete([]) == []
    assert engine.complete([Job((), 5)])[0].error == "the prompt is empty"


def test_caller_with_one_job_does_not_wait_for_another_with_many(engine: Engine) -> None:
    order: list[str] = []

    def ask(name: str, asked: list[Job]) -> None:
        engine.complete(asked)
        order.append(name)

    many = threading.Thread(target=ask, args=("many", jobs(400, tokens=20)))
    many.start()
    while engine.decoded < 50:
        time.sleep(0.001)
    ask("one", jobs(1, tokens=5))
    many.join()
    assert order == ["one", "many"]


def test_long_prompt_does_not_hold_up_those_who_generate(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[set[int]] = []
    decode = Context.decode

    def watched(self: Context, rows: Sequence[Row], *, hidden: bool = False) -> Computed:
        batches.append({row.sequence for row in rows})
        return decode(self, rows, hidden=hidden)

    monkeypatch.setattr(Context, "decode", watched)
    engine.complete([Job(prompt(1, 5), 8, ends=False), Job(prompt(2, 200), 2, ends=False)])
    assert len(batches) <= 10
    assert sum(len(batch) == 2 for batch in batches) >= 4


async def test_cancelled_jobs_stop_and_the_others_go_on(tiny: Path, engine: Engine) -> None:
    kept = asyncio.create_task(engine.acomplete(jobs(4, tokens=100)))
    gone = asyncio.create_task(engine.acomplete([Job(prompt(9), 230, ends=False)] * 4))
    await asyncio.sleep(0.01)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert content(await kept) == fresh(tiny, jobs(4, tokens=100))
    before = engine.decoded
    await asyncio.sleep(0.05)
    assert engine.decoded == before


def test_interrupt_while_waiting_cancels_the_jobs(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:

    class Interrupted(Call):
        def __init__(self, jobs: Sequence[Job], heard: Heard | None) -> None:
            super().__init__(jobs, heard)
            self.future.result = self.interrupted  # type: ignore[method-assign]

        def interrupted(self, timeout: float | None = None) -> list[Result]:
            raise KeyboardInterrupt

    monkeypatch.setattr("rlm_agent.models.gguf.engine.engine.Call", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.complete([Job(prompt(9), 240, ends=False)] * 40)
    monkeypatch.undo()
    assert len(engine.complete(jobs(1))[0].tokens) == 8
    assert engine.decoded < 40 * 240


def test_closed_engine_says_so_also_to_those_who_wait(tiny: Path) -> None:
    engine = Engine(tiny)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.complete, jobs(200, tokens=100))
        while engine.decoded < 10:
            time.sleep(0.001)
        engine.close()
        engine.close()
        with pytest.raises(DecodeError, match="closed; load it again"):
            waiting.result()
    with pytest.raises(DecodeError, match="closed; load it again"):
        engine.complete(jobs(1))


def test_engine_is_refused_after_a_fork(engine: Engine) -> None:
    """In the child; nothing but the parent's memory is looked at there."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            engine.complete(jobs(1))
        except DecodeError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert b"load it again in the new process" in os.read(reading, 200)
    os.close(reading)


def test_failed_batch_is_told_and_the_next_one_begins_anew(
    tiny: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, left = Context.decode, [3]

    def failing(self: Context, rows: Sequence[Row], *, hidden: bool = False) -> Computed:
        left[0] -= 1
        if left[0] == 0:
            raise DecodeError("llama.cpp gave up on a batch (code 1); load the model again")
        return decode(self, rows, hidden=hidden)

    monkeypatch.setattr(Context, "decode", failing)
    with pytest.raises(DecodeError, match="gave up"):
        engine.complete(jobs(6))
    assert content(engine.complete(jobs(6))) == fresh(tiny, jobs(6))


def test_unforeseen_fault_ends_the_calls_and_not_the_engine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Context, rows: Sequence[Row], *, hidden: bool = False) -> Computed:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(Context, "decode", failing)
    with pytest.raises(DecodeError, match=r"ZeroDivisionError: oh.*report this"):
        engine.complete(jobs(6))
    monkeypatch.undo()
    assert len(engine.complete(jobs(1))[0].tokens) == 8


def test_watchdog_gives_up_a_batch_that_hangs(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    decode = Context.decode

    def hanging(self: Context, rows: Sequence[Row], *, hidden: bool = False) -> Computed:
        released.wait()
        return decode(self, rows, hidden=hidden)

    engine = Engine(tiny, threads=1, stall=0.1)
    monkeypatch.setattr(Context, "decode", hanging)
    with pytest.raises(DecodeError, match=r"more than 0\.1 seconds"):
        engine.complete(jobs(1))
    with pytest.raises(DecodeError, match=r"more than 0\.1 seconds"):
        engine.complete(jobs(1))
    released.set()
    engine.close()


def test_cancelled_future_is_no_result(engine: Engine) -> None:
    call = Call(jobs(2))
    call.future.cancel()
    call.finish(0, Result())
    call.finish(1, Result())
    with pytest.raises(CancelledError):
        call.future.result()


def test_job_of_no_tokens_looks_at_what_stands_after_its_prompt(engine: Engine) -> None:
    looked = engine.complete([Job(prompt(1), 0, hidden=True), Job(prompt(1), 0), Job(prompt(2), 0)])
    assert [result.tokens for result in looked] == [(), (), ()]
    assert looked[0].logits is not None and looked[1].logits is not None and looked[0].hidden is not None
    assert (looked[0].logits == looked[1].logits).all()
    assert looked[0].hidden.shape == (64,)
    assert looked[1].hidden is None
    before = engine.decoded
    again = engine.complete([Job(prompt(1), 0, hidden=True)])[0]
    assert engine.decoded == before
    assert again.hidden is not None and (again.hidden == looked[0].hidden).all()
    assert (again.computed, again.cached) == (0, 12)
    greedy = engine.complete([Job(prompt(1), 1, decoding=GREEDY)])[0]
    assert engine.decoded == before
    assert greedy.tokens[0] == looked[0].logits.argmax()


def test_released_branch_gives_its_cells_back_and_leaves_its_siblings(engine: Engine) -> None:
    asked = [Job(prompt(1), 10, seed=seed, ends=False) for seed in range(4)]
    results = engine.complete(asked)
    first = (*prompt(1), *results[0].tokens)
    nodes = len(engine._cache._tree.inside())
    engine.release(first, len(prompt(1)))
    engine.complete([])
    engine.complete([Job(prompt(1), 0)])
    assert len(engine._cache._tree.inside()) < nodes
    again = engine.complete([Job((*prompt(1), *results[1].tokens), 1)])[0]
    assert again.cached == 12 + 9


def test_stop_tokens_and_stop_texts_end_a_job(engine: Engine) -> None:
    (free,) = engine.complete([Job(prompt(1), 20, seed=1, ends=False)])
    fifth = free.tokens[4]
    stopping = Decoding(stop_tokens=(fifth,))
    (stopped,) = engine.complete([Job(prompt(1), 20, seed=1, ends=False, decoding=stopping)])
    assert stopped.finish == "stop"
    assert stopped.tokens == free.tokens[: free.tokens.index(fifth) + 1]
    text = free.text[6:9]
    (cut,) = engine.complete([Job(prompt(1), 20, seed=1, ends=False, stops=(text, b"never"))])
    assert cut.finish == "stop"
    assert free.text.startswith(cut.text)
    assert text in cut.text


def test_trace_tells_what_the_model_thought(engine: Engine) -> None:
    plain, traced = engine.complete(
        [Job(prompt(1), 6, seed=3, ends=False, alternatives=n) for n in (None, 2)]
    )
    assert plain.trace is None
    trace = traced.trace
    assert trace is not None
    assert trace.tokens == traced.tokens == plain.tokens
    assert sum(trace.logprobs) == pytest.approx(traced.logprob)
    assert len(trace.entropies) == len(trace.varentropies) == len(trace.alternatives) == 6
    for logprob, entropy, ((_, best), (_, second)) in zip(
        trace.logprobs, trace.entropies, trace.alternatives, strict=True
    ):
        assert best >= second
        assert best >= logprob - 1e-6
        assert entropy >= 0


def test_siblings_with_spread_codes_differ(engine: Engine) -> None:
    asked = [Job(prompt(1), 6, seed=0, ends=False, code=(i + 0.5) / 16) for i in range(16)]
    assert len({result.tokens for result in engine.complete(asked)}) == 16


def test_unknown_adapter_is_refused(engine: Engine) -> None:
    with pytest.raises(InputError, match="no adapter 'value'"):
        engine.complete([Job(prompt(1), 1, adapter="value")])


def test_engine_that_nobody_holds_stops_by_itself(tiny: Path) -> None:
    engine = Engine(tiny)
    engine.complete(jobs(2))
    worker = engine._worker
    del engine
    assert worker._stopped.wait(10)


def test_fault_between_two_batches_ends_the_calls_and_not_the_engine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(engine._cache, "release", failing)
    engine.release(prompt(1), 2)
    engine.forget()  # what was told before has been done
    monkeypatch.undo()
    assert len(engine.complete(jobs(1))[0].tokens) == 8
