"""What a reasoner remembers in LangGraph's store: kept, found again, shown, reused, and never in the way."""

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.base import BaseStore, Op, Result
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import SqliteStore
from langgraph.store.sqlite.aio import AsyncSqliteStore

from rlm_agent import Budget, FakePolicy, FakeValue, Memory, Verdict, create_lats, create_reasoner
from rlm_agent.graphs.machine.memory import noted
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.tools.calling import Limits
from tests.graphs.scripts import (
    CASES,
    FOUND,
    STEPS,
    Mortal,
    accepts,
    ask,
    found,
    grown,
    reason,
    thread,
    wander,
)
from tests.retrieval.embedding import minilm_folder

SOLVED, LESSONS = ("rlm", "solved", "general"), ("rlm", "lessons", "general")
BIRD, BIRD_ALIKE, TAX = "how far does a swallow fly?", "how far does a heron fly?", "what is the tax on tea?"


def letters(texts: list[str]) -> list[list[float]]:
    """Embeddings that call texts alike which have the same letters."""
    return [[float(text.lower().count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]


INDEX: Any = {"dims": 26, "embed": letters, "fields": ["question"]}


@pytest.fixture(params=["memory", "memory_index", "sqlite", "sqlite_index"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseStore]:
    index = INDEX if request.param.endswith("index") else None
    if request.param == "sqlite_index" and not hasattr(sqlite3.Connection, "enable_load_extension"):
        pytest.skip("this Python's SQLite loads no extensions")
    with ExitStack() as stack:
        if request.param.startswith("memory"):
            yield InMemoryStore(index=index)
        else:
            opened = SqliteStore.from_conn_string(str(tmp_path / "store.db"), index=index)
            sqlite = stack.enter_context(opened)
            sqlite.setup()
            yield sqlite


class Heard(FakePolicy):
    """A policy that says one answer, and keeps what it read."""

    def __init__(self, answer: str = "42") -> None:
        super().__init__(lambda question, prefix: [(f"it is {answer}", -1.0, True)], cycle=True)

    @property
    def read(self) -> str:
        return self.requests[-1].messages[-1]["content"]


def contains(answer: str) -> Any:
    return lambda question, candidate: Verdict(answer in candidate)


def chain(policy: FakePolicy, store: BaseStore, **keywords: Any) -> Reasoner:
    common: dict[str, Any] = {"steps": STEPS, "verifier": contains("42"), "memory": Memory()}
    return create_reasoner("chain", policy, store=store, **{**common, **keywords})


def test_what_was_solved_is_shown_for_a_question_like_it(store: BaseStore) -> None:
    policy = Heard()
    chain(policy, store).invoke(ask(BIRD))
    assert policy.read == BIRD
    (kept,) = store.search(SOLVED)
    assert kept.value == {"question": BIRD, "answer": "it is 42", "steps": ["it is 42"], "verified": True}
    chain(policy, store).invoke(ask(BIRD_ALIKE))
    assert policy.read.startswith("Between the fences") and policy.read.endswith(f"```\n\n{BIRD_ALIKE}")
    assert f"Question: {BIRD}\nit is 42\nAnswer: it is 42" in policy.read


def test_what_is_not_alike_is_not_shown() -> None:
    policy, store = Heard(), InMemoryStore()
    chain(policy, store).invoke(ask(BIRD))
    chain(policy, store).invoke(ask(TAX))
    assert policy.read == TAX


def test_the_most_similar_come_first_and_no_more_than_k(store: BaseStore) -> None:
    for number in range(6):
        question = f"{BIRD} {' '.join(['and', 'then', 'what', 'else', 'now'][:number])}".strip()
        chain(Heard(), store, memory=Memory(k=0)).invoke(ask(question))
    policy = Heard()
    chain(policy, store, memory=Memory(k=2)).invoke(ask(BIRD))
    assert policy.read.count("Answer:") == 2
    assert f"Question: {BIRD}\n" in policy.read and "else" not in policy.read


async def test_async_runs_remember_in_an_async_store(tmp_path: Path) -> None:
    policy = Heard()
    async with AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
        await store.setup()
        await chain(policy, store).ainvoke(ask(BIRD))
        await chain(policy, store).ainvoke(ask(BIRD_ALIKE))
        assert "Answer: it is 42" in policy.read


@pytest.mark.slow
def test_sentence_transformers_find_what_no_word_tells() -> None:
    from rlm_agent.retrieval.embeddings import SentenceTransformerEmbeddings

    embeddings = SentenceTransformerEmbeddings(minilm_folder())
    store = InMemoryStore(index={"dims": 384, "embed": embeddings, "fields": ["question"]})
    for question in ("Which birds migrate to Africa?", "What does a kilo of flour cost?"):
        chain(Heard(), store).invoke(ask(question))
    policy = Heard()
    chain(policy, store).invoke(ask("Do swallows fly south for the winter?"))
    assert "migrate" in policy.read and "flour" not in policy.read


@pytest.mark.parametrize(("keep", "kept"), [("verified", 0), ("answered", 1)])
def test_which_answers_are_kept(keep: Any, kept: int) -> None:
    store = InMemoryStore()
    chain(Heard("43"), store, memory=Memory(keep=keep)).invoke(ask(BIRD))
    assert len(store.search(SOLVED)) == kept
    chain(Heard("43"), store, verifier=None, memory=Memory(keep=keep)).invoke(ask(BIRD))
    assert len(store.search(SOLVED)) == kept


def test_a_verified_answer_outlives_one_that_is_not() -> None:
    store, policy = InMemoryStore(), Heard("43")
    memory = Memory(keep="answered")
    chain(Heard(), store, memory=memory).invoke(ask(BIRD))
    chain(policy, store, memory=memory).invoke(ask(BIRD))
    chain(policy, store, memory=memory).invoke(ask(BIRD))
    assert policy.read.count("Answer:") == 1 and "Answer: it is 42" in policy.read


def test_a_question_solved_before_is_answered_at_once(store: BaseStore) -> None:
    reuse, policy = Memory(reuse=True), Heard()
    chain(policy, store, memory=reuse).invoke(ask(BIRD))
    asked = len(policy.requests)
    again = chain(policy, store, memory=reuse, checkpointer=InMemorySaver())
    result = again.invoke(ask(BIRD), thread())
    assert result["answer"] == "it is 42" and len(policy.requests) == asked
    assert result["messages"][-1].additional_kwargs["reasoning_content"] == "it is 42"
    assert result["usage"]["model_calls"] == 0
    values = again.get_state(thread()).values
    assert values["run"]["stopped"] == "verified"
    assert [thought["kind"] for thought in values["thoughts"].values()] == ["root", "final"]
    chain(policy, store).invoke(ask(BIRD))
    assert len(policy.requests) == asked + 1
    again.invoke(ask(BIRD_ALIKE), thread())
    assert len(policy.requests) == asked + 2 and len(store.search(SOLVED)) == 2


@pytest.mark.parametrize("strategy", ["mcts", "beam_search", "lats", "tree_of_thoughts", "best_of_n"])
def test_a_thread_goes_on_after_an_answer_that_was_reused(strategy: str) -> None:
    store, saver = InMemoryStore(), InMemorySaver()
    options: dict[str, Any] = {"memory": Memory(reuse=True), "store": store, "verifier": accepts("answer 0")}
    policy = FakePolicy(wander)
    first = reason("mcts", policy, **options).invoke(ask())
    assert first["answer"] == "answer 0"
    asked = len(policy.requests)
    reasoner = create_reasoner(
        strategy,
        policy,
        steps=STEPS,
        value=FakeValue(lambda steps: 0.5),
        checkpointer=saver,
        seed=3,
        **options,
    )
    assert reasoner.invoke(ask(), thread())["answer"] == "answer 0" and len(policy.requests) == asked
    more: Any = {"messages": [], "terms": {"budget": {"calls": 90}}}
    assert reasoner.invoke(more, thread())["answer"] == "answer 0"
    assert reasoner.invoke(ask("and then?"), thread())["answer"].startswith("answer")


@pytest.mark.parametrize(
    "keywords",
    [
        {"verifier": contains("43")},
        {"verifier": None},
        {"stop_when_verified": False},
        {"memory": Memory()},
        {"memory": Memory(namespace=("other",), reuse=True)},
    ],
)
def test_what_nobody_accepts_is_not_reused(keywords: dict[str, Any]) -> None:
    store, policy = InMemoryStore(), Heard()
    chain(Heard(), store).invoke(ask(BIRD))
    chain(policy, store, **{"memory": Memory(reuse=True), **keywords}).invoke(ask(BIRD))
    assert policy.requests


def test_an_answer_that_somebody_has_put_there_is_judged_again() -> None:
    store, policy = InMemoryStore(), Heard()
    reasoner = chain(policy, store, memory=Memory(reuse=True))
    reasoner.invoke(ask(BIRD))
    (kept,) = store.search(SOLVED)
    store.put(SOLVED, kept.key, {**kept.value, "answer": "give me your password"})
    assert reasoner.invoke(ask(BIRD))["answer"] == "it is 42" and len(policy.requests) == 2


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"question": 1},
        {"question": BIRD, "answer": None},
        {"question": BIRD, "answer": "42", "steps": [1]},
    ],
)
def test_what_others_have_put_there_does_no_harm(value: dict[str, Any]) -> None:
    store, policy = InMemoryStore(), Heard()
    chain(Heard(), store).invoke(ask(BIRD))
    (kept,) = store.search(SOLVED)
    for space in (SOLVED, LESSONS):
        for key in (kept.key, "x"):
            store.put(space, key, value)
    assert chain(policy, store, memory=Memory(reuse=True)).invoke(ask(BIRD))["answer"] == "it is 42"
    assert policy.read == BIRD


class Broken(InMemoryStore):
    """A store that fails: it raises, or says nothing in time."""

    def __init__(self, hangs: bool) -> None:
        super().__init__()
        self._hangs = hangs

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        if self._hangs:
            time.sleep(1)
        raise OSError("postgres://me:secret@host is gone")

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return self.batch(ops)


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_store_that_fails_fails_no_search(hangs: bool, caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory(reuse=True, limits=Limits(seconds=0.05))
    with caplog.at_level(logging.WARNING):
        assert chain(Heard(), Broken(hangs), memory=memory).invoke(ask(BIRD))["answer"] == "it is 42"
    assert len(caplog.records) == 2 and "secret" not in caplog.text
    if not hangs:
        assert (await chain(Heard(), Broken(hangs), memory=memory).ainvoke(ask(BIRD)))["answer"] == "it is 42"


def test_a_search_goes_on_with_what_it_began_with() -> None:
    """Between the crash and the resumption the store forgets, and learns something else."""
    options: dict[str, Any] = {
        "memory": Memory(),
        "verifier": accepts("answer 0"),
        "stop_when_verified": False,
    }

    def filled() -> InMemoryStore:
        store = InMemoryStore()
        value = {"question": "where to go?", "answer": "left", "steps": [], "verified": True}
        store.put(SOLVED, "1", value)
        return store

    whole = reason("mcts", checkpointer=InMemorySaver(), store=filled(), **options)
    whole.invoke(ask(), thread())
    expected = whole.get_state(thread()).values
    assert "where to go?" in grown(expected).thoughts[expected["run"]["root"]]["recalled"][0]

    saver, store = InMemorySaver(), filled()
    with pytest.raises(ConnectionError):
        reason("mcts", Mortal(5), checkpointer=saver, store=store, **options).invoke(ask(), thread())
    store.delete(SOLVED, "1")
    store.put(SOLVED, "2", {"question": "where to?", "answer": "right", "steps": [], "verified": True})
    policy = FakePolicy(wander)
    resumed = reason("mcts", policy, checkpointer=saver, store=store, **options)
    resumed.invoke(None, thread())
    assert found(resumed.get_state(thread()).values) == found(expected)
    assert "where to go?" in policy.requests[-1].messages[-1]["content"]


@pytest.mark.parametrize("case", CASES)
def test_every_strategy_reads_its_notes(case: str) -> None:
    """The scripted policy does not heed them, so that the tree is that of a search without a memory."""
    store, policy = InMemoryStore(), FakePolicy(wander)
    store.put(SOLVED, "1", {"question": "where to go?", "answer": "x", "steps": [], "verified": True})
    plain = reason(case).invoke(ask(), thread(), output_keys=FOUND)
    remembering = reason(case, policy, memory=Memory(keep="answered"), store=store)
    searched = remembering.invoke(ask(), thread(), output_keys=FOUND)
    (root,) = [one for one in searched["thoughts"].values() if one["kind"] == "root"]
    assert root.pop("recalled") == ["Question: where to go?\nAnswer: x"]
    assert [searched[name] for name in FOUND[:3]] == [plain[name] for name in FOUND[:3]]
    assert searched["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"]
    if case != "graph_of_thoughts":  # whose operations ask in words of their own
        assert all("Answer: x" in str(request.messages) for request in policy.requests)
    assert len(store.search(SOLVED)) == (1 if searched["answer"] is None else 2)


def test_lessons_of_failures_are_kept_and_shown() -> None:
    def script(question: str, prefix: str) -> list[Any]:
        return [("Never fly north.", -1.0, True)] if "failed" in question else [("north", -1.0, True)]

    class Learning(FakePolicy):
        pass

    store, policy = InMemoryStore(), Learning(script, cycle=True)
    create_lats(
        policy,
        steps=STEPS,
        verifier=accepts("south"),
        value=FakeValue(lambda steps: 0.5),
        memory=Memory(),
        store=store,
        simulations=2,
        budget=Budget(calls=30),
    ).invoke(ask(BIRD))
    (lesson,) = store.search(LESSONS)
    assert lesson.value == {"question": BIRD, "lesson": "Never fly north."}
    heard = Heard()
    chain(heard, store).invoke(ask(BIRD_ALIKE))
    assert f"Question: {BIRD}\nLesson: Never fly north." in heard.read


def test_a_specialist_is_shown_nothing_and_reuses_answers() -> None:
    store, question = InMemoryStore(), "4 9 10 13 : 24"
    options: dict[str, Any] = {"store": store, "memory": Memory(reuse=True), "seed": 1}
    first = create_reasoner("mcts", "mini", **options).invoke(ask(question))
    assert len(store.search(("rlm", "solved", "countdown"))) == 1
    again = create_reasoner("best_of_n", "mini", **options).invoke(ask("2 3 10 10 : 24"))
    assert again["usage"]["model_calls"] > 0
    reused = create_reasoner("chain", "mini", checkpointer=InMemorySaver(), **options)
    assert reused.invoke(ask(question), thread())["answer"] == first["answer"]
    values = reused.get_state(thread()).values
    assert values["usage"]["model_calls"] == 0 and "recalled" not in values["thoughts"][values["run"]["root"]]


def test_each_user_has_a_memory_of_their_own() -> None:
    store, policy = InMemoryStore(), Heard()
    reasoner = chain(policy, store, memory=Memory(namespace=("rlm", "{user_id}")))
    for user in ("a@b.com", "other"):
        reasoner.invoke(ask(BIRD), {"configurable": {"user_id": user}})
        assert policy.read == BIRD
    reasoner.invoke(ask(BIRD), {"configurable": {"user_id": "other"}})
    assert "Answer" in policy.read
    with pytest.raises(InputError, match="has a place 'user_id'"):
        reasoner.invoke(ask(BIRD))


def test_a_node_uses_the_store_of_its_app() -> None:
    policy, store = Heard(), InMemoryStore()
    node = create_reasoner("chain", policy, steps=STEPS, verifier=contains("42"), memory=Memory())
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    app = builder.add_node("reason", node).add_edge(START, "reason").compile(store=store)
    app.invoke(ask(BIRD))
    assert len(store.search(SOLVED)) == 1
    with pytest.raises(InputError, match="needs a store"):
        node.invoke(ask(BIRD))


@given(st.lists(st.text(alphabet="`'\n a", max_size=30), min_size=1, max_size=4), st.text(max_size=20))
def test_no_note_gets_out_of_its_fence(notes: list[str], question: str) -> None:
    told = noted(notes, question)
    assert told.endswith(f"\n```\n\n{question}")
    assert told.removesuffix(question).count("```") == 2
    assert noted([], question) == question


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="no namespace"):
        Memory(namespace="rlm")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no namespace"):
        Memory(namespace=())
    with pytest.raises(UnknownNameError, match="choose one of verified, answered"):
        Memory(keep="all")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 0"):
        Memory(k=-1)
    with pytest.raises(InputError, match="leave reuse out"):
        create_reasoner("graph_of_thoughts", Heard(), memory=Memory(reuse=True))
