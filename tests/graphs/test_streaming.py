"""What those see who watch a search: tokens, each with the thought that it is of, and typed events."""

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from rlm_agent import (
    Budget,
    ChatModelPolicy,
    Completion,
    FakePolicy,
    FakeValue,
    GGUFPolicy,
    Piece,
    ReasonerChatModel,
    ReasonerPolicy,
    ReasonerValue,
    Request,
    RolloutValue,
    Steps,
    Verdict,
    atrace,
    create_beam_search,
    create_best_of_n,
    create_mcts,
    trace,
)
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.models.judges import JudgeValue
from rlm_agent.models.protocols import Message, Streaming
from rlm_agent.models.resolve import load_policy
from tests.graphs.scripts import LOOPS, ask, reason, thread, wander, whole_path

QUESTION: dict[str, Any] = {"messages": [("user", "4 9 10 13 : 24")]}
Told = tuple[tuple[str, ...], str, Any]
Watch = Callable[..., list[Told]]


def watched(
    reasoner: Any, question: Any, config: Any = None, modes: Sequence[str] = ("messages", "custom")
) -> list[Told]:
    told = reasoner.stream(question, config, stream_mode=[*modes], subgraphs=True)
    return list(told)


def awatched(
    reasoner: Any, question: Any, config: Any = None, modes: Sequence[str] = ("messages", "custom")
) -> list[Told]:
    async def watch() -> list[Told]:
        told = reasoner.astream(question, config, stream_mode=[*modes], subgraphs=True)
        return [one async for one in told]

    return asyncio.run(watch())


both = pytest.mark.parametrize("watch", [watched, awatched])


def joined(told: Sequence[Told]) -> dict[tuple[tuple[str, ...], str], str]:
    """The texts of all thoughts, by namespace and id, from their chunks."""
    texts: dict[tuple[tuple[str, ...], str], str] = defaultdict(str)
    for place, chunk, metadata in messages(told):
        if "rlm_node" in metadata:
            assert isinstance(chunk, AIMessageChunk)
            node = metadata["rlm_node"]
            assert chunk.id == "/".join(filter(None, ("|".join(place), node)))
            texts[place, node] += str(chunk.content)
    return dict(texts)


def messages(told: Sequence[Told]) -> list[tuple[tuple[str, ...], BaseMessage, dict[str, Any]]]:
    return [(place, *payload) for place, mode, payload in told if mode == "messages"]


def events(told: Sequence[Told], kind: str) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    found = [(place, payload) for place, mode, payload in told if mode == "custom"]
    return [(place, event) for place, event in found if event["event"] == kind]


def thoughts(told: Sequence[Told]) -> dict[tuple[tuple[str, ...], str], str]:
    """The texts of all thoughts that say anything, by namespace and id, from their events."""
    return {(place, event["id"]): event["text"] for place, event in events(told, "thought") if event["text"]}


def replies(told: Sequence[Told]) -> list[tuple[tuple[str, ...], str]]:
    return [
        (place, str(one.content)) for place, one, metadata in messages(told) if "rlm_node" not in metadata
    ]


# --- tokens -------------------------------------------------------------------------------------------------


@both
def test_tokens_of_sixteen_branches_of_mini_join_to_the_thoughts_they_are_of(watch: Watch) -> None:
    reasoner = create_best_of_n("mini", n=16, parallel=16, seed=3, stop_when_verified=False)
    told = watch(reasoner, QUESTION)
    assert joined(told) == thoughts(told)
    tokens = [metadata["rlm_node"] for _, _, metadata in messages(told) if "rlm_node" in metadata]
    assert len(set(tokens[:40])) == 16  # side by side, and not one after the other
    assert len(tokens) > 3 * len(set(tokens))
    metadata = messages(told)[0][2]
    assert (metadata["langgraph_node"], metadata["rlm_operator"]) == ("generate", "generate")
    (answer,) = events(told, "answer")
    assert replies(told) == [((), answer[1]["answer"])]


@both
def test_tokens_come_while_the_thought_is_written(watch: Watch) -> None:
    told = watch(create_best_of_n("mini", n=4, parallel=4, seed=3), QUESTION)
    kinds = [payload["event"] if mode == "custom" else mode for _, mode, payload in told]
    operators = [
        payload["operator"] for _, mode, payload in told if mode == "custom" and "operator" in payload
    ]
    assert operators[:2] == ["select", "generate"]
    first = kinds.index("operator", kinds.index("operator") + 1)  # of generate, behind that of select
    assert "messages" in kinds[:first]


class Scripted(BaseChatModel):
    """Writes two lines that its seed and its prompt decide, in random pieces and with random pauses."""

    seed: int = 0
    pause: float = 0.002

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    def _pieces(self, messages: list[BaseMessage]) -> list[tuple[float, ChatGenerationChunk]]:
        luck = random.Random(f"{self.seed} {[message.content for message in messages]}")
        words = " ".join(luck.choice(["aß", "bcd", "efghij", "kl"]) for _ in range(luck.randint(2, 9)))
        end = " so \\boxed{7}" if len(messages) > 3 or luck.random() < 0.3 else ""
        left, pieces = f"{words}{end}\nbeyond the stop", list[str]()
        while left:
            size = luck.randint(1, 8)
            pieces.append(left[:size])
            left = left[size:]
        return [
            (luck.random() * self.pause, ChatGenerationChunk(message=AIMessageChunk(content=piece)))
            for piece in pieces
        ]

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for pause, piece in self._pieces(messages):
            time.sleep(pause)
            yield piece

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for pause, piece in self._pieces(messages):
            await asyncio.sleep(pause)
            yield piece


@both
def test_tokens_of_sixteen_branches_of_a_chat_model_join_to_the_thoughts_they_are_of(watch: Watch) -> None:
    reasoner = create_best_of_n(
        Scripted(),
        n=16,
        parallel=16,
        seed=3,
        steps=Steps(max_tokens=99, max_steps=3),
        budget=Budget(calls=99),
    )
    told = watch(reasoner, ask())
    assert joined(told) == thoughts(told)
    assert len(thoughts(told)) > 16
    assert "beyond" not in str(messages(told))
    tokens = [metadata["rlm_node"] for _, _, metadata in messages(told) if "rlm_node" in metadata]
    assert len(tokens) > 2 * len(set(tokens))
    assert sum(before != after for before, after in pairwise(tokens)) > 2 * len(set(tokens))


@both
@pytest.mark.parametrize("model", ["mini", "scripted"])
def test_tokens_of_inner_searches_join_to_the_thoughts_of_their_own_search(model: str, watch: Watch) -> None:
    policy = load_policy(model) if model == "mini" else ChatModelPolicy(Scripted(pause=0.0))
    steps = None if model == "mini" else Steps(max_tokens=99, max_steps=3)
    inner = partial(create_best_of_n, policy, n=3, parallel=3, steps=steps, stop_when_verified=False)
    outer = create_beam_search(
        ReasonerPolicy(inner, tokens=300, calls=40), width=4, expansions=4, seed=1, budget=Budget(calls=500)
    )
    told = watch(outer, QUESTION)
    assert joined(told) == thoughts(told)
    own = {event["id"] for place, event in events(told, "thought") if not place}
    within = {place: metadata.get("rlm_within") for place, _, metadata in messages(told)}
    assert within.pop(()) is None
    assert set(within.values()) <= own
    assert len(set(within.values())) == len(within) > 8
    assert max(Counter(node for _, node in joined(told)).values()) > 8  # ids alone would not do


@both
def test_a_search_in_an_app_is_heard_by_those_who_ask_for_subgraphs(watch: Watch) -> None:
    builder = StateGraph(MessagesState)
    for name in ("one", "two"):
        reasoner = create_best_of_n("mini", n=2, parallel=2, seed=3, name=name)
        builder.add_node(name, reasoner)
        builder.add_edge(START, name)
    app = builder.compile()
    told = watch(app, QUESTION)
    assert joined(told) == thoughts(told)
    ids = Counter(message.id for _, message, metadata in messages(told) if "rlm_node" not in metadata)
    assert list(ids.values()) == [1, 1]
    assert len({place for place, _ in joined(told)}) == 2
    heard: list[Any] = list(app.stream(ask("4 9 10 13 : 24"), stream_mode="messages"))  # type: ignore[call-overload]
    assert ["rlm_node" in metadata for _, metadata in heard] == [False, False]


@both
def test_a_policy_that_does_not_stream_is_heard_in_whole_thoughts(watch: Watch) -> None:
    told = watch(reason("best_of_n"), ask())
    assert joined(told) == thoughts(told)
    assert len(messages(told)) == len(thoughts(told)) + 1


# --- what is not heard --------------------------------------------------------------------------------------


class Grading(Scripted):
    """Grades whatever it is asked."""

    def _pieces(self, messages: list[BaseMessage]) -> list[tuple[float, ChatGenerationChunk]]:
        return [(0.0, ChatGenerationChunk(message=AIMessageChunk(content="Grade: 5")))]


@both
def test_judges_and_rollouts_are_not_heard(watch: Watch) -> None:
    steps, policy = Steps(max_tokens=99, max_steps=3), ChatModelPolicy(Scripted(pause=0.0))
    rolled = RolloutValue(policy, steps, verifier=lambda question, answer: Verdict(True), samples=2)
    inner = ReasonerValue(
        partial(create_best_of_n, policy, n=2, steps=steps, verifier=lambda q, a: Verdict(True))
    )
    for value in (JudgeValue(ChatModelPolicy(Grading()), samples=1), rolled, inner):
        told = watch(
            create_beam_search(
                policy, value=value, steps=steps, seed=1, budget=Budget(calls=200, tokens=9000)
            ),
            ask(),
        )
        own = {key: text for key, text in thoughts(told).items() if not key[0]}
        assert joined(told) == own
        assert any(event["value"] is not None for _, event in events(told, "thought"))


@both
def test_a_critique_is_told_apart_from_the_thought_that_it_is_about(watch: Watch) -> None:
    reasoner = reason("llama_berry")
    told = watch(reasoner, ask())
    asides = [
        (message.id, metadata["rlm_node"])
        for _, message, metadata in messages(told)
        if metadata.get("rlm_operator") == "critique"
    ]
    assert asides
    assert all(id == f"{node}:critique" for id, node in asides)
    rest = [one for one in told if one[1] == "custom" or one[2][1].get("rlm_operator") != "critique"]
    assert joined(rest) == thoughts(told)
    assert {"refine"} <= {metadata.get("rlm_operator") for _, _, metadata in messages(told)}


class Deaf(FakePolicy):
    """Is never to be asked for pieces."""

    def stream(self, requests: Sequence[Request]) -> Any:
        raise AssertionError("nobody listens")

    astream = stream


@pytest.mark.parametrize("modes", [["custom"], ["updates", "values"]])
def test_nobody_is_streamed_to_who_did_not_ask(modes: list[str]) -> None:
    assert isinstance(Deaf(wander), Streaming)
    reasoner = reason("best_of_n", Deaf(wander))
    reasoner.invoke(ask())
    asyncio.run(reasoner.ainvoke(ask()))
    watched(reasoner, ask(), modes=modes)
    with pytest.raises(AssertionError, match="nobody listens"):
        watched(reasoner, ask(), modes=["messages"])


@both
def test_nothing_is_heard_of_what_is_tagged_so(watch: Watch) -> None:
    told = watch(reason("best_of_n"), ask(), {"tags": ["nostream"]})
    assert not joined(told) and thoughts(told)


# --- pieces -------------------------------------------------------------------------------------------------


def request(**fields: Any) -> Request:
    question = Message(role="user", content="4 9 10 13 : 24")
    return Request(
        **{"messages": (question,), "prefix": "", "max_tokens": 30, "seed": 1, "stop": ("\n",), **fields}
    )


def pieces(told: Sequence[Piece | list[Completion]]) -> tuple[dict[int, str], list[Completion]]:
    *parts, last = told
    texts: dict[int, str] = defaultdict(str)
    for part in parts:
        assert isinstance(part, Piece)
        texts[part.request] += part.text
    assert isinstance(last, list)
    return texts, last


async def test_pieces_of_mini_are_its_completions() -> None:
    policy = load_policy("mini")
    assert isinstance(policy, Streaming)
    stops = (("\n",), (" | 3", " | 4", "\n"), ("=",))  # some go over several tokens
    requests = [request(seed=seed, max_tokens=1 + seed, stop=stops[seed % 3]) for seed in range(24)]
    expected = policy.generate(requests)
    for told in ([*policy.stream(requests)], [one async for one in policy.astream(requests)]):
        texts, completions = pieces(told)
        assert [one.text for one in completions] == [texts.get(index, "") for index in range(24)]
        assert [(one.text, one.logprob, one.finish) for one in completions] == [
            (one.text, one.logprob, one.finish) for one in expected
        ]
    assert {one.finish for one in expected} == {"stop", "length"}


class Repeating(Scripted):
    """Says what it is told to say, cut into pieces."""

    cut: list[str]

    def _pieces(self, messages: list[BaseMessage]) -> list[tuple[float, ChatGenerationChunk]]:
        return [(0.0, ChatGenerationChunk(message=AIMessageChunk(content=piece))) for piece in self.cut]


@given(
    st.lists(st.sampled_from(["a", "b", "ab", "\n", " "]), max_size=8),
    st.sampled_from(["", "ab", "a\n"]),
    st.lists(st.sampled_from(["\n", "ab", "\n\n", "aba"]), max_size=2),
)
def test_pieces_of_a_chat_model_are_its_completion_however_they_are_cut(
    cut: list[str], prefix: str, stops: list[str]
) -> None:
    policy = ChatModelPolicy(Repeating(cut=cut or [""]))
    asked = [request(prefix=prefix, stop=tuple(stops))]
    texts, (completion,) = pieces([*policy.stream(asked)])
    assert texts.get(0, "") == completion.text == policy.generate(asked)[0].text


async def still(policy: GGUFPolicy) -> bool:
    """Whether the engine computes nothing any more."""
    await asyncio.sleep(0.05)
    before = policy.engine.decoded
    await asyncio.sleep(0.1)
    return policy.engine.decoded == before


async def test_leaving_a_stream_ends_the_generation() -> None:
    policy = load_policy("mini")
    assert isinstance(policy, GGUFPolicy)
    many = [request(seed=seed, max_tokens=400, stop=()) for seed in range(300)]
    stream = policy.stream(many)
    next(stream)
    stream.close()
    behind = policy.astream(many)
    await anext(behind)
    await behind.aclose()
    assert await still(policy)


# --- events -------------------------------------------------------------------------------------------------


def timeless(event: dict[str, Any]) -> dict[str, Any]:
    usage = {"usage": {**event["usage"], "seconds": 0}} if "usage" in event else {}
    return {**event, **usage}


@pytest.mark.parametrize("case", LOOPS)
def test_events_are_the_same_async_and_rebuild_the_state(case: str) -> None:
    plain = watched(reason(case, checkpointer=InMemorySaver()), ask(), thread(), ["custom"])
    reasoner = reason(case, checkpointer=InMemorySaver())
    told = awatched(reasoner, ask(), thread(), ["custom"])
    assert [timeless(event) for _, _, event in told] == [timeless(event) for _, _, event in plain]
    assert json.loads(json.dumps([event for _, _, event in told])) == [event for _, _, event in told]
    values = reasoner.get_state(thread()).values
    worth = {values["run"]["root"]: {"value": None, "q": 0.0, "visits": 0}}
    for _, _, event in told:
        if event["event"] == "thought":
            worth[event["id"]] = {"value": event["value"], "q": 0.0, "visits": 0}
        elif event["event"] == "value":
            assert all(worth[id] != new for id, new in event["thoughts"].items())
            worth |= event["thoughts"]
    assert worth == {
        id: {key: stats[key] for key in ("value", "q", "visits")} for id, stats in values["stats"].items()
    }


@pytest.mark.parametrize("case", LOOPS)
def test_the_best_so_far_and_what_is_left_are_told(case: str) -> None:
    told = watched(reason(case, budget=Budget(calls=60, tokens=400)), ask(), modes=["custom"])
    best = [event for _, event in events(told, "best")]
    left = [event for _, event in events(told, "budget")]
    ((_, answer),) = events(told, "answer")
    assert [event["answer"] for event in best[-1:]] == (
        [] if answer["answer"] is None else [answer["answer"]]
    )
    assert all(before["thought"] != after["thought"] for before, after in pairwise(best))
    first, last = left[0], left[-1]
    assert (first["round"], first["tokens"], first["calls"], first["nodes"]) == (1, 400, 60, None)
    usage = answer["usage"]
    assert (last["tokens"], last["calls"]) == (400 - usage["completion_tokens"], 60 - usage["model_calls"])
    selects = [event for _, event in events(told, "operator") if event["operator"] == "select"]
    assert [event["round"] for event in left] == [*range(1, len(selects) + 1), len(selects)]


def test_the_best_so_far_is_told_when_a_better_one_is_found() -> None:
    """Chains end at once as "0" or "1" by turns; the third one is the best."""
    policy = FakePolicy(lambda question, prefix: [(text, -1.0, True) for text in "acb"], cycle=True)
    value = FakeValue(lambda steps: {"a": 0.5, "b": 0.75, "c": 0.25}[steps[-1]])
    reasoner = create_best_of_n(
        policy, n=3, parallel=1, value=value, steps=Steps(answer=whole_path), seed=1, weighted=False
    )
    told = watched(reasoner, ask(), modes=["custom"])
    assert [(event["answer"], event["value"]) for _, event in events(told, "best")] == [
        ("a", 0.5),
        ("b", 0.75),
    ]


def test_nothing_is_worked_out_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def answer(graph: Any, ids: Sequence[str]) -> str | None:
        asked.append("answer")
        return ids[0] if ids else None

    def ended(modes: Sequence[str]) -> int:
        reasoner = reason("best_of_n")
        nodes = reasoner.builder.search  # type: ignore[attr-defined]
        object.__setattr__(nodes.rules, "answer", answer)
        asked.clear()
        watched(reasoner, ask(), modes=modes)
        return len(asked)

    assert ended(["updates", "messages", "values"]) == 1  # when the search concludes
    assert ended(["custom"]) > 1


@both
def test_updates_and_values_come_through_nested_graphs(watch: Watch) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("solve", reason("mcts"))
    builder.add_edge(START, "solve")
    told = watch(builder.compile(), ask(), modes=["updates", "values"])
    inner = [(mode, [*payload]) for place, mode, payload in told if place]
    operators = [keys[0] for mode, keys in inner if mode == "updates"]
    assert operators[0] == "begin" and operators[-1] == "conclude"
    assert operators[1:-1] == ["select", "generate", "evaluate", "backpropagate"] * (
        (len(operators) - 2) // 4
    )
    shown = {key for mode, keys in inner for key in keys if mode == "values"}
    assert shown == {"messages", "answer", "usage"}  # and no tree
    assert inner[-1][0] == "values" and sum(mode == "values" for mode, _ in inner) > 20
    assert [mode for place, mode, _ in told if not place] == ["values", "updates", "values"]


async def test_a_trace_is_all_that_is_told_plain_and_async() -> None:
    told = [timeless(event) for event in trace(reason("mcts"), "where to?")]  # type: ignore[arg-type]
    assert [timeless(event) async for event in atrace(reason("mcts"), "where to?")] == told  # type: ignore[arg-type]
    assert told[-1]["event"] == "answer"


# --- a chat model that reasons ------------------------------------------------------------------------------


def slow() -> tuple[GGUFPolicy, Reasoner]:
    policy = load_policy("mini")
    assert isinstance(policy, GGUFPolicy)
    return policy, create_mcts(policy, seed=3, budget=Budget(tokens=50_000), stop_when_verified=False)


async def test_a_stream_with_progress_tells_the_thoughts_as_they_come() -> None:
    model = ReasonerChatModel(reason("best_of_n"), progress=True)
    expected = [event for event in trace(reason("best_of_n"), "where to?") if event["event"] == "thought"]
    plain = model.invoke("where to?")
    assert "thoughts" not in plain.additional_kwargs
    for chunks in ([*model.stream("where to?")], [one async for one in model.astream("where to?")]):
        told = [one.additional_kwargs["thoughts"] for one in chunks if "thoughts" in one.additional_kwargs]
        assert told == [[event] for event in expected]
        assert not any(one.content for one in chunks[: len(told)])
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        assert whole.additional_kwargs.pop("thoughts") == expected
        assert (whole.content, whole.additional_kwargs) == (plain.content, plain.additional_kwargs)


async def test_who_leaves_the_stream_of_a_chat_model_ends_the_search() -> None:
    policy, reasoner = slow()
    stream = ReasonerChatModel(reasoner, progress=True).astream("4 9 10 13 : 24")
    first = await anext(stream)
    assert first.additional_kwargs["thoughts"]
    await stream.aclose()  # type: ignore[attr-defined]
    assert await still(policy)
    plain = ReasonerChatModel(reasoner, progress=True).stream("4 9 10 13 : 24")
    next(plain)
    plain.close()  # type: ignore[attr-defined]
    assert await still(policy)


@pytest.mark.parametrize("progress", [False, True])
async def test_a_task_that_waits_for_a_chat_model_can_be_cancelled(progress: bool) -> None:
    policy, reasoner = slow()

    async def read() -> None:
        async for _ in ReasonerChatModel(reasoner, progress=progress).astream("4 9 10 13 : 24"):
            pass

    task = asyncio.create_task(read())
    before = policy.engine.decoded
    while policy.engine.decoded == before:  # noqa: ASYNC110  an engine sets no event
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await still(policy)
