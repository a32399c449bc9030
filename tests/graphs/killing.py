"""Searches that are killed at random moments, and whether they lost, repeated or changed anything.

A child process searches. Before and after each batch that it asks of a model or a tool it writes what it asks
to a log that is synced to the disk. It is killed by SIGKILL. Another process says what it finds stored, goes
on with it, and writes such a log, too.
"""

import asyncio
import hashlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.config import get_config
from langgraph.types import Durability, StateSnapshot

from rlm_agent import (
    Budget,
    BufferedSqliteSaver,
    Calculator,
    Completion,
    FakePolicy,
    FakeValue,
    Request,
    create_reasoner,
)
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.models.fake import Reply
from rlm_agent.models.prompts import prompts_of
from rlm_agent.models.protocols import Candidate, Policy, Score, Value
from rlm_agent.models.resolve import load_policy, load_value
from tests.graphs.scripts import CASES, STEPS, ask, guess, thread, wander

START_METHOD = "forkserver"
PAUSE = 0.002
"""Seconds that a scripted model takes, so that a moment can fall into a call of it."""

GAME = "2 3 10 10 : 24"
SUM = "A shop has 37 crates with 48 pears in each. 129 are given away. How many are left?"
REAL = Budget(tokens=400)


def calling(question: str, prefix: str) -> list[Reply]:
    """A chain of calls of a calculator, which ends after twelve steps."""
    number = prefix.count("\n")
    if number >= 12:
        return [(f"Action: Finish[{number}]", -0.1)]
    return [(f"Action: calculator[{number}+{other}]", -1.0) for other in range(5)]


@dataclass(frozen=True)
class Scene:
    """What is searched: by which strategy, asked what, with which models."""

    strategy: str
    parameters: Mapping[str, Any]
    question: str = "where to?"
    model: str | Callable[[str, str], list[Reply]] = wander
    value: str | None = "guess"


def scripted(case: str) -> Scene:
    """A case of the scripted policy and value."""
    strategy, parameters = CASES[case]
    return Scene(strategy, {"steps": STEPS, "budget": Budget(calls=60), **parameters})


SCENES: dict[str, Scene] = {
    **{
        case: scripted(case)
        for case in "mcts mcts_parallel beam_search best_first llama_berry graph_of_thoughts lats".split()
    },
    "react": Scene("react", {"budget": Budget(calls=60), "tools": "calculator"}, model=calling),
    "mini mcts": Scene(
        "mcts",
        {"parallel": 4, "budget": REAL, "stop_when_verified": False},
        question=GAME,
        model="mini",
        value=None,
    ),
    "mini beam_search": Scene(
        "beam_search",
        {"budget": REAL, "stop_when_verified": False},
        question=GAME,
        model="mini",
        value="head",
    ),
    "mini best_first": Scene(
        "best_first",
        {"parallel": 4, "budget": REAL, "stop_when_verified": False},
        question=GAME,
        model="mini",
        value="head",
    ),
    "mini react": Scene(
        "react",
        {"budget": REAL, "tools": "calculator"},
        question=SUM,
        model="mini-tools",
        value=None,
    ),
}


@dataclass(frozen=True)
class Job:
    """One process: what it searches, where that is stored, and whether it goes on with what is there."""

    scene: str
    store: str
    thread: str
    folder: str
    in_tasks: bool = False
    durability: Durability = "sync"
    resumes: bool = False
    forgets: bool = False
    """Goes on from the oldest checkpoint instead of the latest: what the check has to notice."""

    @property
    def log(self) -> Path:
        """What it asks of models and tools."""
        return Path(self.folder) / f"{self.thread}.{'after' if self.resumes else 'before'}.log"

    @property
    def result(self) -> Path:
        """What it has found in the end."""
        return self.log.with_suffix(".json")


class Log:
    """A file of JSON lines, each of which is on the disk before anything else happens."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, **record: Any) -> None:
        """Append a line."""
        os.write(self._file, f"{json.dumps(record)}\n".encode())
        os.fsync(self._file)

    @contextmanager
    def asking(self, kind: str, asked: Sequence[object]) -> Iterator[None]:
        """Note what is asked, by a digest, and in which node of which superstep; and when it is answered."""
        metadata = get_config()["metadata"]
        where = {"step": metadata["langgraph_step"], "node": metadata["langgraph_node"]}
        calls = [f"{kind} {hashlib.sha256(repr(one).encode()).hexdigest()[:16]}" for one in asked]
        self.write(what="asked", calls=calls, **where)
        yield
        self.write(what="answered", calls=calls, **where)


class Logged:
    """A policy, or a value, that notes what it is asked."""

    def __init__(self, model: Any, log: Log, pause: float) -> None:
        self.identity = model.identity
        self._model, self._log, self._pause = model, log, pause

    def _ask(self, kind: str, asked: Sequence[Any]) -> Any:
        with self._log.asking(kind, asked):
            time.sleep(self._pause)
            return getattr(self._model, kind)(asked)

    async def _aask(self, kind: str, asked: Sequence[Any]) -> Any:
        with self._log.asking(kind, asked):
            await asyncio.sleep(self._pause)
            return await getattr(self._model, f"a{kind}")(asked)


class LoggedPolicy(Logged):
    """A policy that notes what it is asked."""

    def __init__(self, model: Policy, log: Log, pause: float) -> None:
        super().__init__(model, log, pause)
        self.task, self.decoding, self.prompts = model.task, model.decoding, prompts_of(model)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """As the policy does."""
        completions: list[Completion] = self._ask("generate", requests)
        return completions

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        """As the policy does."""
        completions: list[Completion] = await self._aask("generate", requests)
        return completions


class LoggedValue(Logged):
    """A value that notes what it is asked."""

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """As the value does."""
        scores: list[Score] = self._ask("score", candidates)
        return scores

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """As the value does."""
        scores: list[Score] = await self._aask("score", candidates)
        return scores


class LoggedCalculator(Calculator):
    """A calculator that notes what it is asked."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def call(self, argument: str) -> str:
        """As the calculator does."""
        with self._log.asking("calculator", [argument]):
            return super().call(argument)


def reasoner_of(job: Job, log: Log, saver: BaseCheckpointSaver[Any]) -> Reasoner:
    """The reasoner of a job, whose models and tools write the log."""
    scene = SCENES[job.scene]
    pause = 0.0 if isinstance(scene.model, str) else PAUSE
    policy: Policy = load_policy(scene.model) if isinstance(scene.model, str) else FakePolicy(scene.model)
    value: Value | None = FakeValue(guess) if scene.value == "guess" else load_value(scene.value, policy)
    parameters = dict(scene.parameters)
    if "tools" in parameters:
        parameters["tools"] = [LoggedCalculator(log)]
    return create_reasoner(
        scene.strategy,
        LoggedPolicy(policy, log, pause),
        value=None if value is None else LoggedValue(value, log, pause),
        checkpointer=saver,
        seed=7,
        **parameters,
    )


BUFFERED = "buffered:"
"""What the store of a `BufferedSqliteSaver` begins with, before the path of the file."""


@contextmanager
def saver_of(store: str) -> Iterator[BaseCheckpointSaver[Any]]:
    """The saver of a store: of the URL of a Postgres, or of the path of an SQLite file."""
    if store.startswith("postgres"):
        from langgraph.checkpoint.postgres import PostgresSaver

        with PostgresSaver.from_conn_string(store) as saver:
            saver.setup()
            yield saver
    elif store.startswith(BUFFERED):
        with BufferedSqliteSaver.from_conn_string(store.removeprefix(BUFFERED)) as saver:
            yield saver
    else:
        from langgraph.checkpoint.sqlite import SqliteSaver

        with SqliteSaver.from_conn_string(store) as saver:
            yield saver


@asynccontextmanager
async def async_saver_of(store: str) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """The same for async runs."""
    if store.startswith("postgres"):
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

        async with AsyncPostgresSaver.from_conn_string(store) as saver:
            await saver.setup()
            yield saver
    elif store.startswith(BUFFERED):
        with saver_of(store) as saver:
            yield saver
    else:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        async with AsyncSqliteSaver.from_conn_string(store) as saver:
            yield saver


def search(job: Job) -> None:
    """What a process does: search, or look what is stored and go on; then write down what was found."""
    log, config = Log(job.log), thread(job.thread)
    if job.in_tasks:
        asyncio.run(_search_in_tasks(job, log, config))
        return
    with saver_of(job.store) as saver:
        reasoner = reasoner_of(job, log, saver)
        if job.resumes:
            saved = saver.get_tuple(config)
            log.write(**_stored(saved, reasoner.get_state(config)))
            if job.forgets:
                config = [*reasoner.get_state_history(config)][-1].config
        fresh = not job.resumes or saved is None
        reasoner.invoke(_asked(job) if fresh else None, config, durability=job.durability)
        _conclude(job, reasoner.get_state(thread(job.thread)))


async def _search_in_tasks(job: Job, log: Log, config: RunnableConfig) -> None:
    async with async_saver_of(job.store) as saver:
        reasoner = reasoner_of(job, log, saver)
        if job.resumes:
            saved = await saver.aget_tuple(config)
            log.write(**_stored(saved, await reasoner.aget_state(config)))
        fresh = not job.resumes or saved is None
        await reasoner.ainvoke(_asked(job) if fresh else None, config, durability=job.durability)
        _conclude(job, await reasoner.aget_state(config))


def _asked(job: Job) -> dict[str, Any]:
    return ask(SCENES[job.scene].question)


def _stored(saved: CheckpointTuple | None, state: StateSnapshot) -> dict[str, Any]:
    """The last superstep that is stored whole, and the nodes of the next one whose writes are stored."""
    if saved is None:
        return {"what": "stored", "step": -2, "nodes": []}
    written = {task for task, channel, _ in saved.pending_writes or () if not channel.startswith("__")}
    nodes = [task.name for task in state.tasks if task.id in written]
    return {"what": "stored", "step": saved.metadata["step"], "nodes": nodes}


def _conclude(job: Job, state: StateSnapshot) -> None:
    values = state.values
    # What is computed of a prompt depends on what the same process has computed before.
    usage = {name: values["usage"][name] for name in ("completion_tokens", "model_calls", "nodes")}
    found = {**{name: values[name] for name in ("thoughts", "stats", "answer")}, "usage": usage}
    job.result.write_text(json.dumps(found, sort_keys=True))


@dataclass(frozen=True)
class Reference:
    """What an unbroken search finds and asks, and how many seconds it takes from its first call on."""

    found: str
    calls: Counter[str]
    seconds: float


@dataclass(frozen=True)
class Fate:
    """What became of a killed search: what was wrong, and how far it had come and was stored."""

    faults: list[str]
    reached: int
    stored: int
    repeated: int
    after: float


def unbroken(job: Job) -> Reference:
    """The reference for a job, from a process of its own."""
    process = _start(job)
    started = _first_call(job, process)
    process.join()
    assert process.exitcode == 0
    calls = Counter(call for line in lines_of(job.log) if line["what"] == "asked" for call in line["calls"])
    return Reference(job.result.read_text(), calls, time.monotonic() - started)


def killed(job: Job, reference: Reference, moments: random.Random) -> Fate:
    """Kill a search at a random moment, go on with it in another process, and look at what became of it.

    A search that was over before is begun again.
    """
    for attempt in range(100):
        victim = replace(job, thread=f"{job.thread}.{attempt}")
        process = _start(victim)
        began = _first_call(victim, process)
        after = moments.uniform(0, reference.seconds)
        time.sleep(max(0.0, after - (time.monotonic() - began)))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            break
    heir = replace(victim, resumes=True)
    process = _start(heir)
    process.join()
    if process.exitcode != 0:
        return Fate([f"the second process ended with {process.exitcode}"], 0, 0, 0, after)
    return _judged(victim, heir, reference, after)


def _judged(victim: Job, heir: Job, reference: Reference, after: float) -> Fate:
    before, (stored, *later) = lines_of(victim.log), lines_of(heir.log)
    reached = max(line["step"] for line in before)

    def is_stored(line: Mapping[str, Any]) -> bool:
        step: int = stored["step"]
        return line["step"] <= step or (line["step"] == step + 1 and line["node"] in stored["nodes"])

    def calls(lines: Sequence[Mapping[str, Any]], what: str) -> Counter[str]:
        return Counter(call for line in lines if line["what"] == what for call in line["calls"])

    kept = [line for line in before if is_stored(line)]
    again = [line for line in later if is_stored(line)]
    faults = []
    if heir.result.read_text() != reference.found:
        faults.append("another tree or answer")
    if again:
        faults.append(f"asked again what was stored: {again[0]}")
    if calls(kept, "asked") != calls(kept, "answered"):
        faults.append("stored before it was answered")
    if calls(kept, "asked") + calls(later, "asked") != reference.calls:
        faults.append("what was stored and what was asked later are not what an unbroken search asks")
    if victim.durability == "sync" and stored["step"] < reached - 1:
        faults.append(f"superstep {reached} began while {stored['step']} was the last that was stored")
    repeated = sum((calls(before, "asked") & calls(later, "asked")).values())
    return Fate(faults, reached, stored["step"], repeated, after)


def fates(
    store: str, folder: str, runs: int, seed: int, scenes: Sequence[str] = tuple(SCENES)
) -> Iterator[tuple[Job, Fate]]:
    """What becomes of so many killed searches: scene by scene, plain and async, with both durabilities."""
    moments, references = random.Random(seed), dict[tuple[str, bool], Reference]()
    ways: list[tuple[bool, Durability]] = [(False, "sync"), (True, "sync"), (False, "async"), (True, "async")]
    for number in range(runs):
        scene = scenes[number % len(scenes)]
        in_tasks, durability = ways[(number + number // len(scenes)) % len(ways)]
        job = Job(scene, store, f"{seed}-{number}", folder, in_tasks, durability)
        if (scene, in_tasks) not in references:
            references[scene, in_tasks] = unbroken(replace(job, thread=f"{job.thread}-whole"))
        yield job, killed(job, references[scene, in_tasks], moments)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; the last one may be torn."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _start(job: Job) -> multiprocessing.Process:
    context: Any = multiprocessing.get_context(START_METHOD)
    context.set_forkserver_preload([__name__, "llama_cpp"])
    process: multiprocessing.Process = context.Process(target=search, args=(job,), daemon=True)
    process.start()
    return process


def _first_call(job: Job, process: multiprocessing.Process) -> float:
    """The moment at which a process has asked a model for the first time."""
    while process.is_alive() and not (job.log.exists() and job.log.stat().st_size):
        time.sleep(0.001)
    return time.monotonic()
