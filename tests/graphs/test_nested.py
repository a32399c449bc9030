"""Reasoners within reasoners: a tree derived by hand, budgets that divide, and what breaks or refuses."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

from rlm_agent import (
    Budget,
    Completion,
    FakePolicy,
    FakeValue,
    Request,
    Steps,
    create_beam_search,
    create_best_of_n,
    create_mcts,
    create_reasoner,
)
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.nested import ReasonerPolicy, ReasonerValue
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Composite, Message, Policy, Value
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.formats import WHOLE
from rlm_agent.tasks.registry import get_task
from tests.graphs.scripts import (
    CASES,
    FOUND,
    NEED_VALUES,
    STEPS,
    X1,
    accepts,
    ask,
    binary,
    found,
    grown,
    guess,
    thread,
    wander,
    whole_path,
)
from tests.models.chains import candidate

GOLDEN = {
    "a": 0.4, "b": 0.6,
    "ba": 0.3, "bb": 0.8,
    "bba": 0.7, "bbb": 0.2,
}  # fmt: skip


def golden_script(question: str, prefix: str) -> list[Reply]:
    """Each thought has the children "a" and "b"; chains end at their third step."""
    return [(letter, -1.0, prefix.count("\n") == 2) for letter in "ab"]


def of_path(steps: Sequence[str]) -> float:
    return GOLDEN["".join(steps)]


def golden_policy(inner: FakePolicy) -> ReasonerPolicy:
    small = {**X1, "simulations": 2, "c1": 1.0, "c2": 1e12}
    create = partial(create_mcts, inner, value=FakeValue(of_path), steps=Steps(answer=whole_path), **small)
    return ReasonerPolicy(create)


def golden_beam(inner: FakePolicy, value: FakeValue) -> Reasoner:
    return create_beam_search(
        golden_policy(inner),
        width=1,
        expansions=2,
        value=value,
        steps=Steps(answer=whole_path),
        budget=Budget(calls=200),
        seed=1,
        checkpointer=InMemorySaver(),
    )


def test_a_beam_whose_steps_are_small_searches_is_the_one_derived_by_hand() -> None:
    """A beam of one chain, two new steps a round; each is sought by two simulations of x1, two children each.

    Round 1, behind nothing. Simulation 1: a .4, b .6, so that q is −.2 and .2, and b is selected next.
    Simulation 2: ba .3, bb .8. No chain has ended. Expected: a .4, b (1 + (2·−.4 + 2·.6)/4)/2 = .55, ba .3,
    bb .8: the way to bb begins with b. It took four steps of two tokens each and four looks at the value.
    Both steps of the beam are sought alike, the second is a double and is closed.
    Round 2, behind b: ba .3, bb .8, then bba .7, bbb .2, which end. The best end is bba: the step is b.
    Round 3, behind b, b: bba .7, bbb .2 end; nothing is left for a second simulation. The step is a, an end.
    """
    inner, value = FakePolicy(golden_script, cycle=True), FakeValue(of_path)
    reasoner = golden_beam(inner, value)
    result = reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    graph = grown(values)
    written = [("".join(graph.steps(id)), graph.thoughts[id]["tokens"]) for id in graph.walk()]
    assert written == [("", 0), ("b", 8), ("bb", 8), ("bba", 4), ("bba", 4), ("bb", 8), ("b", 8)]
    closed = {"".join(graph.steps(id)) for id in graph.walk() if graph.stats[id]["closed"]}
    assert closed == {"b", "bb", "bba"}
    assert [graph.thoughts[id]["kind"] for id in graph.finals()] == ["final"] * 2
    assert result["answer"] == "bba"
    assert len(inner.requests) == 4 + 4 + 4 + 4 + 2 + 2 == 20
    assert result["usage"]["completion_tokens"] == 40
    assert result["usage"]["model_calls"] == 20 + 20 + len(value.candidates)
    assert result["usage"]["nodes"] == 6
    assert {request.prefix for request in inner.requests} == {"", "b\n", "b\nb\n"}


class Counting(FakePolicy):
    """A fake that keeps its replies."""

    def __init__(self) -> None:
        super().__init__(wander)
        self.completions: list[Completion] = []

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        replies = super().generate(requests)
        self.completions += replies
        return replies


COMMON: dict[str, Any] = {"steps": STEPS, "seed": 7, "verifier": accepts("answer 1"), "retry": False}
PLAIN = [case for case in CASES if case not in NEED_VALUES and CASES[case][0] in ("mcts", "beam_search")]
bounds = st.none() | st.integers(1, 60)


def bound_to(case: str, policy: Policy, value: Value | None) -> partial[Reasoner]:
    """The `create` of a case over a policy, to be nested."""
    strategy, parameters = CASES[case]
    return partial(create_reasoner, strategy, policy, value=value, **{**COMMON, **parameters})


@settings(max_examples=60)
@given(
    inner=st.sampled_from(["chain", "self_consistency", "best_of_n", *PLAIN]),
    outer=st.sampled_from(["chain", "best_of_n", *PLAIN]),
    deep=st.booleans(),
    as_value=st.booleans(),
    share=st.tuples(st.integers(1, 40), st.integers(1, 12)),
    budget=st.tuples(bounds, bounds, bounds),
    seed=st.integers(0, 99),
)
def test_no_bound_is_exceeded_however_reasoners_are_nested(
    inner: str,
    outer: str,
    deep: bool,
    as_value: bool,
    share: tuple[int, int],
    budget: tuple[int | None, int | None, int | None],
    seed: int,
) -> None:
    """In tokens and calls all that the models at the bottom did counts; nodes are those of the outer tree."""
    (each_tokens, each_calls), (tokens, calls, nodes) = share, budget
    bottom, look = Counting(), FakeValue(guess)
    policy: Policy = ReasonerPolicy(bound_to(inner, bottom, look), tokens=each_tokens, calls=each_calls)
    if deep:
        policy = ReasonerPolicy(bound_to(inner, policy, None), tokens=2 * each_tokens, calls=2 * each_calls)
    value = ReasonerValue(bound_to(inner, bottom, look), tokens=each_tokens, calls=each_calls)
    reasoner = create_reasoner(
        CASES[outer][0],
        policy,
        value=value if as_value else None,
        budget=Budget(tokens=tokens, calls=60 if tokens is calls is nodes is None else calls, nodes=nodes),
        **{**COMMON, "seed": seed, **CASES[outer][1]},
    )
    result = reasoner.invoke(ask())
    usage = result["usage"]
    written = sum(completion.tokens for completion in bottom.completions)
    assert tokens is None or written <= tokens
    assert calls is None or len(bottom.completions) + len(look.candidates) <= calls
    assert nodes is None or usage["nodes"] <= nodes
    assert usage["completion_tokens"] == written
    assert usage["model_calls"] == len(bottom.completions) + len(look.candidates)
    assert usage["prompt_tokens"] == sum(completion.prompt_tokens for completion in bottom.completions)
    assert result["messages"][-1].type == "ai"


@pytest.mark.parametrize("budget", [Budget(tokens=1), Budget(calls=1), Budget(nodes=1)])
def test_the_least_budget_is_enough_to_say_that_there_is_no_answer(budget: Budget) -> None:
    bottom = Counting()
    policy = ReasonerPolicy(bound_to("best_of_n", bottom, None))
    result = create_best_of_n(policy, n=2, budget=budget, **COMMON).invoke(ask())
    assert result["messages"][-1].content.startswith("No answer was found (stopped: ")
    assert len(bottom.completions) == (1 if budget.nodes is None else result["usage"]["model_calls"])


@pytest.mark.parametrize("case", ["mcts", "beam_search", "best_of_n"])
def test_sync_and_async_find_the_same(case: str) -> None:
    def nested() -> Reasoner:
        policy = ReasonerPolicy(bound_to("x1", FakePolicy(wander), FakeValue(guess)), tokens=60, calls=20)
        value = ReasonerValue(bound_to("best_of_n", FakePolicy(wander), None), tokens=40, calls=12)
        strategy, parameters = CASES[case]
        return create_reasoner(
            strategy, policy, value=value, budget=Budget(calls=200), **COMMON, **parameters
        )

    expected = found(nested().invoke(ask(), output_keys=FOUND))
    assert found(asyncio.run(nested().ainvoke(ask(), output_keys=FOUND))) == expected
    assert found(nested().invoke(ask(), output_keys=FOUND)) == expected
    assert len(expected[0]) > 4


class Mortal(FakePolicy):
    """A policy that is gone at its n-th batch, if there is one."""

    def __init__(self, dies_at: int | None = None) -> None:
        super().__init__(wander)
        self.batches, self._dies_at = 0, dies_at

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches += 1
        if self.batches == self._dies_at:
            raise ConnectionError("the model is gone")
        return super().generate(requests)


def crash_reasoner(bottom: FakePolicy, saver: Any) -> Reasoner:
    policy = ReasonerPolicy(bound_to("x1", bottom, FakeValue(guess)), tokens=60, calls=20)
    return create_mcts(
        policy, **{**X1, "branching": 1}, budget=Budget(calls=150), checkpointer=saver, **COMMON
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_search_that_broke_off_within_an_inner_one_ends_in_the_same_tree(
    share: float, tmp_path: Path
) -> None:
    whole = Mortal()
    expected = found(crash_reasoner(whole, None).invoke(ask(), output_keys=FOUND))
    path = tmp_path / "thread.db"
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        broken = crash_reasoner(Mortal(1 + int(share * whole.batches)), SqliteSaver(connection))
        with pytest.raises(ConnectionError, match="the model is gone"):
            broken.invoke(ask(), thread())
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        reasoner = crash_reasoner(Mortal(), SqliteSaver(connection))
        reasoner.invoke(None, thread())
        assert found(reasoner.get_state(thread()).values) == expected


def test_inner_searches_leave_no_checkpoints_and_do_not_mix_with_the_outer_one() -> None:
    saver = InMemorySaver()
    reasoner = crash_reasoner(FakePolicy(wander), saver)
    reasoner.invoke(ask(), thread())
    kept = list(saver.list(None))
    assert {one.config["configurable"]["checkpoint_ns"] for one in kept} == {""}
    graph = grown(reasoner.get_state(thread()).values)
    assert set(graph.walk()) == set(graph.thoughts)


def test_events_of_inner_searches_are_seen_by_those_who_ask_for_them() -> None:
    reasoner = golden_beam(FakePolicy(golden_script, cycle=True), FakeValue(of_path))
    own: list[Any] = list(reasoner.stream(ask(), thread("own"), stream_mode="custom"))
    told: list[Any] = list(reasoner.stream(ask(), thread("all"), stream_mode="custom", subgraphs=True))
    inner = [event for space, event in told if space]
    assert [event["event"] for space, event in told if not space] == [event["event"] for event in own]
    assert sum(event["event"] == "answer" for event in inner) == 6
    assert sum(event["event"] == "thought" for event in inner) == 20


async def test_a_nested_reasoner_is_a_node_of_an_app() -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("reason", golden_beam(FakePolicy(golden_script, cycle=True), FakeValue(of_path)))
    builder.add_edge(START, "reason")
    app = builder.compile(checkpointer=InMemorySaver())
    question: Any = ask()
    assert app.invoke(question, thread())["messages"][-1].content == "bba"
    assert (await app.ainvoke(question, thread("2")))["messages"][-1].content == "bba"


MESSAGES = (Message(role="user", content="where to?"),)


def request(prefix: str = "", **keywords: Any) -> Request:
    return Request(
        MESSAGES, prefix, **{"max_tokens": 50, "seed": 1, "stop": ("\n",), "calls": 20, **keywords}
    )


def small(policy: Policy, **keywords: Any) -> ReasonerPolicy:
    """A policy whose inner search samples three chains."""
    whole = keywords.pop("whole", False)
    create = partial(create_best_of_n, policy, n=3, **{"steps": STEPS, **keywords})
    return ReasonerPolicy(create, whole=whole, calls=200)


def test_the_completion_tells_what_all_of_its_search_took() -> None:
    bottom = Counting()
    (completion,) = small(bottom).generate([request()])
    assert completion.tokens == sum(one.tokens for one in bottom.completions)
    assert completion.calls == len(bottom.completions) > 3
    assert completion.prompt_tokens == sum(one.prompt_tokens for one in bottom.completions)
    assert completion.finish in ("stop", "end") and completion.text


def test_a_whole_completion_is_the_rest_of_the_best_chain() -> None:
    path = FakePolicy(binary(3))
    policy = small(path, steps=Steps(answer=whole_path), value=FakeValue(guess), whole=True)
    (whole,) = policy.generate([request(stop=())])
    (rest,) = policy.generate([request("1\n")])
    assert (whole.finish, rest.finish) == ("end", "end")
    assert (whole.text.count("\n"), rest.text.count("\n")) == (2, 1)
    outer = create_best_of_n(
        policy, n=2, steps=Steps(format=WHOLE, max_tokens=50, answer=lambda question, steps: "".join(steps))
    )
    assert len(outer.invoke(ask())["answer"]) == 3


def test_a_rejected_end_is_not_gone_on_to_while_there_are_other_steps() -> None:
    """Of three chains the only one that ends is rejected at once; the other steps have not been judged."""

    def script(question: str, prefix: str) -> list[Reply]:
        return [("wrong", -1.0, True), ("on", -1.0)]

    bottom = FakePolicy(script, cycle=True)
    (completion,) = small(bottom, verifier=accepts("right")).generate([request(calls=4)])
    assert (completion.text, completion.finish) == ("on", "stop")


def test_an_inner_search_is_bounded_by_its_budget_not_by_a_number_of_supersteps() -> None:
    policy = small(FakePolicy(binary(60)), steps=Steps(max_steps=60, answer=whole_path), whole=True)
    outer = create_best_of_n(policy, n=1, steps=Steps(format=WHOLE, max_tokens=50, answer=whole_path))
    (alone,) = policy.generate([request(max_tokens=500, calls=500, stop=())])
    assert alone.text.count("\n") == 59
    assert len(outer.invoke(ask())["answer"]) == 60


@pytest.mark.parametrize("whole", [True, False])
def test_a_search_that_finds_nothing_is_an_error_with_its_reason(whole: bool) -> None:
    silent = FakePolicy(lambda question, prefix: [("", -1.0)])
    (completion,) = small(silent, whole=whole).generate([request()])
    assert (completion.text, completion.finish) == ("", "error")
    assert completion.error is not None and completion.error.startswith("the inner search found nothing")
    assert completion.tokens == 3 and completion.calls == 3


def test_a_refused_search_is_an_error_and_harms_no_other() -> None:
    steps = get_task("game24").steps
    bottom = FakePolicy(lambda question, prefix: [("1 + 2 = 3 | 3 3 4", -1.0)])
    policy = ReasonerPolicy(partial(create_best_of_n, bottom, n=2, steps=steps))
    asked = (Message(role="user", content="1 2 3 4 : 24"),)
    good = Request(asked, "", 50, 1, ("\n",), calls=9)
    bad = Request(asked, "1 + 1 = 2 | 2 3 4\n", 50, 1, ("\n",), calls=9)
    worse = Request((Message(role="user", content="how are you?"),), "", 50, 1, ("\n",), calls=9)
    first, second, third, fourth = policy.generate([good, bad, worse, good])
    assert first == fourth and first.finish == "stop"
    assert second.finish == third.finish == "error" and second.calls == third.calls == 0
    assert "leaves nothing to search" in str(second.error)


def test_a_policy_that_searches_is_declared_and_says_what_it_is_made_of() -> None:
    bottom = FakePolicy(wander)
    policy = ReasonerPolicy(partial(create_best_of_n, bottom, n=3, budget=Budget(tokens=40)), calls=9)
    assert all(isinstance(policy, protocol) for protocol in (Policy, Composite))
    assert (policy.most_tokens, policy.most_calls) == (40, 9)
    others = [
        ReasonerPolicy(partial(create_best_of_n, bottom, n=4, budget=Budget(tokens=40)), calls=9),
        ReasonerPolicy(partial(create_best_of_n, bottom, n=3, budget=Budget(tokens=40)), calls=8),
        ReasonerPolicy(partial(create_best_of_n, bottom, n=3, budget=Budget(tokens=40)), calls=9, whole=True),
        ReasonerPolicy(partial(create_beam_search, bottom, budget=Budget(tokens=40)), calls=9),
    ]
    assert len({policy.identity, *(other.identity for other in others)}) == 5
    again = ReasonerPolicy(partial(create_best_of_n, bottom, n=3, budget=Budget(tokens=40)), calls=9)
    assert again.identity == policy.identity


def ends(question: str, prefix: str) -> list[Reply]:
    """Four ways on in turn: two right ends, a wrong one and one that says nothing."""
    return [("right", -1.0, True), ("wrong", -1.0, True), ("right", -1.0, True), ("", -1.0)]


@pytest.mark.parametrize(("by", "worth"), [("share", 0.5), ("verified", 1.0), ("best", 1.0)])
def test_a_chain_is_worth_what_a_search_makes_of_it(by: Any, worth: float) -> None:
    bottom = FakePolicy(ends, cycle=True)
    create = partial(
        create_best_of_n, bottom, n=4, steps=STEPS, verifier=accepts("right"), stop_when_verified=False
    )
    value = ReasonerValue(create, by=by)
    assert all(isinstance(value, protocol) for protocol in (Value, Composite))
    open_chain, right, wrong = value.score(
        [
            candidate("where to?", "left"),
            candidate("where to?", "left", "right", final=True),
            candidate("where to?", "wrong", final=True),
        ]
    )
    assert (open_chain.value, open_chain.error) == (worth, None)
    assert (open_chain.tokens, open_chain.calls) == (7, 4)
    assert (right.value, wrong.value, right.calls) == (1.0, 0.0, 0)
    assert all(request.prefix == "left\n" for request in bottom.requests)


def test_a_search_without_an_end_is_worth_nothing_or_unknown() -> None:
    silent = FakePolicy(wander, fails=dict.fromkeys(range(99), "connection refused"))
    create = partial(create_best_of_n, silent, n=1, steps=STEPS, verifier=accepts("right"))
    scores = {
        by: ReasonerValue(create, by=by).score([candidate("q", "left")])[0] for by in ("verified", "best")
    }
    assert (scores["verified"].value, scores["verified"].error) == (0.0, None)
    assert str(scores["best"].error).startswith("no end was found")


def test_what_cannot_be_nested_is_refused() -> None:
    bottom = FakePolicy(wander)
    create = partial(create_best_of_n, bottom, steps=STEPS)
    with pytest.raises(InputError, match="give at least 1"):
        ReasonerPolicy(create, calls=0)
    with pytest.raises(InputError, match="nobody tells the inner reasoner"):
        ReasonerValue(create)
    with pytest.raises(InputError, match="by='best'"):
        ReasonerValue(partial(create, value=FakeValue(guess)), by="share")
    with pytest.raises(UnknownNameError, match="choose one of share, verified, best"):
        ReasonerValue(create, by="vote")  # type: ignore[arg-type]
    plain = StateGraph(MessagesState).add_node("n", lambda state: state).add_edge(START, "n")
    with pytest.raises(InputError, match="nest one that a create_"):
        ReasonerPolicy(lambda checkpointer: plain.compile())


def test_an_end_is_judged_by_the_inner_value_where_there_is_no_verifier() -> None:
    create = partial(create_best_of_n, FakePolicy(wander), steps=STEPS, value=FakeValue(lambda steps: 0.25))
    value = ReasonerValue(create, by="best")
    (score,) = value.score([candidate("q", "left", final=True)])
    assert (score.value, score.calls) == (0.25, 1)
