"""A chain of action-thought: what it does of itself, where it is started again, and how it is told."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, FakePolicy, Steps, ThoughtGraph
from rlm_agent.graphs.coat import create_coat
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply, Script
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Decoding, Message
from rlm_agent.operators.rules.coat import act
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.ids import derive_seed
from tests.graphs.scripts import STEPS, accepts, ask, grown, thread, wander
from tests.structure.trees import plant

LINES = Steps(max_tokens=9, max_steps=20)


def searched(policy: FakePolicy, **keywords: Any) -> tuple[ThoughtGraph, dict[str, Any], list[Any]]:
    """The tree after one question, the values of the final state, and the operators that were told."""
    common: dict[str, Any] = {"steps": LINES, "budget": Budget(calls=200), "seed": 5}
    reasoner = create_coat(policy, **{**common, **keywords}, checkpointer=InMemorySaver())
    told: list[Any] = list(reasoner.stream(ask(), thread(), stream_mode="custom"))
    values = reasoner.get_state(thread()).values
    return grown(values), values, [event for event in told if event["event"] == "operator"]


def tags_and_texts(graph: ThoughtGraph) -> list[tuple[str | None, str]]:
    """Of all thoughts in the order of `walk`, the operator and the text."""
    thoughts = [graph.thoughts[id] for id in graph.walk()]
    return [(thought.get("operator"), thought["text"]) for thought in thoughts[1:]]


CHAIN = (
    "<|continue|>13 - 9 = 4",
    "<|continue|>10 + 4 = 14",
    "<|reflect|>back to 1",
    "<|explore|>10 - 4 = 6",
    "so that is better",
    "<|continue|>6 * 4 = 24",
)


def one_chain(question: str, prefix: str) -> list[Reply]:
    """The steps of CHAIN, one after the other."""
    number = prefix.count("\n")
    return [(CHAIN[number], -1.0, number == len(CHAIN) - 1)]


def test_one_greedy_chain_is_all_there_is_and_its_meta_actions_are_its_operators() -> None:
    policy = FakePolicy(one_chain)
    graph, values, told = searched(policy)
    operators = [None, None, "reflect", "explore", None, None]
    assert tags_and_texts(graph) == list(zip(operators, CHAIN, strict=True))
    assert values["answer"] == CHAIN[-1] and values["run"]["stopped"] == "exhausted"
    assert {request.decoding.temperature for request in policy.requests} == {0.0}
    ids = graph.chain(graph.finals()[0])
    calls = [
        (e["operator"], e["inputs"], e["outputs"])
        for e in told
        if e["operator"] not in ("select", "evaluate")
    ]
    assert calls == [
        ("generate", [graph.root], [ids[0]]),
        ("generate", [ids[0]], [ids[1]]),
        ("critique", [ids[1]], [ids[2]]),
        ("backtrack", [ids[2]], [ids[0]]),
        ("generate", [ids[0]], [ids[3]]),
        ("generate", [ids[3]], [ids[4]]),
        ("generate", [ids[4]], [ids[5]]),
    ]
    assert sum(e["tokens"] for e in told) == values["usage"]["completion_tokens"]


def test_the_question_is_put_in_words_that_explain_the_tags() -> None:
    policy = FakePolicy(one_chain)
    searched(policy)
    (asked,) = {request.messages[-1]["content"] for request in policy.requests}
    assert asked.startswith("where to?\n")
    assert all(tag in asked for tag in ("<|continue|>", "<|reflect|>", "<|explore|>"))


def test_a_general_model_ends_its_chain_itself_and_its_last_box_is_the_answer() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        lines = ["<|continue|>\\boxed{3}", "<|reflect|>3 is odd", "<|explore|>\\boxed{4}"]
        return [(lines[prefix.count("\n")], -1.0, prefix.count("\n") == 2)]

    _, values, _ = searched(FakePolicy(script), steps=None)
    assert values["answer"] == "4"


def erring(question: str, prefix: str) -> list[Reply]:
    """Three steps to a wrong answer; after a reflection, another way that is right two times out of three."""
    if prefix.endswith("<|reflect|>"):
        return [("back to 1", -1.0)]
    if "reflect" in prefix:
        return [("<|explore|>right", -0.7, True), ("<|explore|>wrong", -1.4, True)]
    return [
        ("<|continue|>wrong" if prefix.count("\n") == 2 else "<|continue|>on", -1.0, prefix.count("\n") == 2)
    ]


def test_a_restart_drops_steps_of_the_failed_chain_and_reflects_there() -> None:
    policy = FakePolicy(erring)
    graph, values, _ = searched(policy, backtrack=2, verifier=accepts("<|explore|>right"), seed=2)
    first = graph.chain(graph.children(graph.root)[0])
    end = next(id for id in graph.finals() if graph.stats[id]["value"] == 0.0)
    dropped = 1 + derive_seed(2, "restart", end) % 2
    place = graph.chain(end)[:-dropped][-1]
    reflections = [id for id in graph.children(place) if graph.thoughts[id].get("operator") == "reflect"]
    assert first and len(graph.children(graph.root)) == 1
    assert graph.thoughts[reflections[0]]["text"] == "<|reflect|>back to 1"
    assert values["run"]["stopped"] == "verified" and values["answer"] == "<|explore|>right"
    forced = [request for request in policy.requests if request.prefix.endswith("<|reflect|>")]
    assert forced and all(request.decoding.temperature == 1.0 for request in forced)
    assert [request.decoding.temperature for request in policy.requests[:3]] == [0.0] * 3


def test_at_most_so_many_steps_are_dropped_and_a_chain_of_which_nothing_is_left_begins_anew() -> None:
    lengths = set()
    for seed in range(30):
        graph, _, _ = searched(
            FakePolicy(erring), restarts=1, backtrack=3, verifier=accepts("never"), seed=seed
        )
        again = [id for id in graph.walk() if graph.thoughts[id]["index"] == 1]
        lengths.add(graph.thoughts[again[0]]["depth"] - 1)
    assert lengths == {0, 1, 2}


def test_without_backtracking_a_restart_is_a_new_chain_that_is_drawn() -> None:
    policy = FakePolicy(erring)
    graph, values, _ = searched(policy, restarts=3, verifier=accepts("never"))
    assert len(graph.children(graph.root)) == 4 and len(graph.finals()) == 4
    assert values["run"]["stopped"] == "exhausted" and len(policy.requests) == 12
    assert [request.decoding.temperature for request in policy.requests] == [0.0] * 3 + [1.0] * 9
    assert not any("reflect" in request.prefix for request in policy.requests)


def test_a_temperature_that_is_given_holds_for_all_chains() -> None:
    policy = FakePolicy(erring)
    searched(policy, restarts=1, verifier=accepts("never"), temperature=0.3)
    assert {request.decoding.temperature for request in policy.requests} == {0.3}


def test_no_restart_is_the_paper_s_single_chain() -> None:
    policy = FakePolicy(erring)
    _, values, _ = searched(policy, restarts=0, verifier=accepts("never"))
    assert len(policy.requests) == 3 and values["answer"] == "<|continue|>wrong"


def test_an_answer_without_a_verifier_ends_it_and_a_failed_chain_does_not() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return [("", -0.1), ("<|continue|>yes", -0.7, True)]  # greedily nothing

    policy = FakePolicy(script)
    _, values, _ = searched(policy)
    assert values["answer"] == "<|continue|>yes" and 2 <= len(policy.requests) < 20


def test_nothing_reflects_on_a_reflection() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        lines = ["<|continue|>a", "<|reflect|>hm", "<|explore|>b"]
        if prefix.count("\n") < 3 and not prefix.endswith("<|reflect|>"):
            return [(lines[prefix.count("\n")], -1.0)]
        return [("bad", -1.0, True)]

    for seed in range(12):
        policy = FakePolicy(script)
        searched(policy, backtrack=3, restarts=2, verifier=accepts("never"), seed=seed)
        forced = [request.prefix for request in policy.requests if request.prefix.endswith("<|reflect|>")]
        assert all(not prefix.split("\n")[-2].startswith("<|reflect|>") for prefix in forced)


def on_and_on(question: str, prefix: str) -> list[Reply]:
    return [("<|continue|>on and on", -1.0)]


@pytest.mark.parametrize("thinking", [1, 5, 8, 11])
def test_no_chain_takes_more_than_its_thinking_and_the_next_begins_at_the_question(thinking: int) -> None:
    graph, values, _ = searched(FakePolicy(on_and_on), thinking=thinking, restarts=2, backtrack=2)
    ends = [id for id in graph.walk() if not graph.stats[id]["children"]]
    assert len(ends) == len(graph.children(graph.root)) == 3
    spent = [sum(graph.thoughts[id]["tokens"] for id in graph.chain(end)) for end in ends]
    assert spent == [thinking] * 3
    assert values["answer"] is None and values["run"]["stopped"] == "exhausted"


def test_a_chain_that_is_too_deep_begins_anew_at_the_question() -> None:
    graph, _, _ = searched(FakePolicy(on_and_on), restarts=2, backtrack=3, steps=Steps(max_steps=4))
    assert len(graph.children(graph.root)) == 3
    assert [graph.thoughts[id].get("reason") for id in graph.walk() if not graph.stats[id]["children"]] == [
        "no answer within 4 steps"
    ] * 3


class Plain:
    """The chain and its restarts as two loops over the pure operator."""

    def __init__(self, policy: FakePolicy, seed: int) -> None:
        asked = Prompts().require("coat").replace("{question}", "where to?")
        self.setting = Setting(policy, (Message(role="user", content=asked),), seed, LINES)
        self.graph = plant("where to?")

    def chain(self, place: str, begun: str, temperature: float) -> str:
        """The end of a chain that goes on from a place."""
        setting = replace(self.setting, decoding=Decoding(temperature=temperature))
        while self.graph.thoughts[place]["kind"] in ("root", "step"):
            outcome = drive(act(self.graph, place, begun, setting, Allowance(), 9))
            self.graph = self.graph.updated(outcome.writes)
            (place,), begun = outcome.outputs, ""
        return place

    def run(self, restarts: int, backtrack: int) -> None:
        end = self.chain(self.graph.root, "", 0.0)
        for _ in range(restarts):
            kept = self.graph.chain(end)[: -1 - derive_seed(self.setting.seed, "restart", end) % backtrack]
            while kept and self.graph.thoughts[kept[-1]]["text"].startswith("<|reflect|>"):
                kept.pop()
            if self.graph.thoughts[end]["depth"] >= LINES.max_steps:
                kept = []
            end = self.chain(kept[-1] if kept else self.graph.root, "<|reflect|>" if kept else "", 1.0)


def rambling(question: str, prefix: str) -> list[Reply]:
    """All meta-actions, by chance, and a failure now and then."""
    return [
        ("<|continue|>on", -0.5),
        ("<|reflect|>hm", -1.0),
        ("<|explore|>else", -1.1),
        ("", -2.5),
        ("wrong", -1.2, True),
    ]


@pytest.mark.parametrize("seed", [3, 11, 23, 31])
def test_a_plain_loop_over_the_operator_grows_the_same_tree(seed: int) -> None:
    graph, _, _ = searched(
        FakePolicy(rambling), restarts=8, backtrack=2, verifier=accepts("never"), seed=seed
    )
    plain = Plain(FakePolicy(rambling), seed)
    plain.run(restarts=8, backtrack=2)
    assert dict(plain.graph.thoughts) == graph.thoughts
    assert {thought.get("operator") for thought in graph.thoughts.values()} == {None, "reflect", "explore"}
    assert {id: stats["children"] for id, stats in plain.graph.stats.items()} == {
        id: stats["children"] for id, stats in graph.stats.items()
    }


@settings(max_examples=25)
@given(
    tokens=st.none() | st.integers(1, 60),
    calls=st.integers(1, 60),
    nodes=st.none() | st.integers(1, 60),
    seed=st.integers(0, 999),
    backtrack=st.integers(0, 3),
    thinking=st.none() | st.integers(1, 20),
)
def test_no_budget_is_exceeded(
    tokens: int | None, calls: int, nodes: int | None, seed: int, backtrack: int, thinking: int | None
) -> None:
    policy = FakePolicy(rambling)
    budget = Budget(tokens=tokens, calls=calls, nodes=nodes)
    graph, values, _ = searched(
        policy, budget=budget, seed=seed, backtrack=backtrack, thinking=thinking, verifier=accepts("never")
    )
    assert len(policy.requests) == values["usage"]["model_calls"] <= calls
    assert len(graph.thoughts) - 1 == values["usage"]["nodes"] <= (nodes or math.inf)
    assert tokens is None or values["usage"]["completion_tokens"] <= tokens


@pytest.mark.parametrize("bound", ["tokens", "calls", "nodes"])
def test_a_budget_of_one_makes_one_call(bound: str) -> None:
    policy = FakePolicy(wander)
    _, values, _ = searched(policy, budget=Budget(**{bound: 1}), steps=STEPS)
    assert len(policy.requests) == 1 and values["answer"] is None


@pytest.mark.parametrize("backtrack", [0, 2])
@pytest.mark.parametrize(
    "script",
    [
        lambda question, prefix: [("", -1.0)],
        lambda question, prefix: [("word after word after word after word", -1.0)],
        lambda question, prefix: [("<|reflect|>", -1.0)],
        lambda question, prefix: [("<|explore|>same", -1.0)],
    ],
    ids=["silent", "endless", "reflecting", "repeated"],
)
def test_a_policy_that_gets_nowhere_ends_with_the_budget_and_without_an_answer(
    script: Script, backtrack: int
) -> None:
    _, values, _ = searched(FakePolicy(script), backtrack=backtrack, budget=Budget(calls=60), steps=STEPS)
    assert values["answer"] is None and values["usage"]["model_calls"] == 60


def test_a_call_that_fails_costs_one_chain_and_a_dead_model_ends_the_search() -> None:
    policy = FakePolicy(one_chain, fails={2: "connection reset"})
    graph, values, _ = searched(policy)
    reasons = [thought.get("reason") for thought in graph.thoughts.values()]
    assert reasons.count("connection reset") == 1 and values["answer"] == CHAIN[-1]
    lost = FakePolicy(one_chain, fails=dict.fromkeys(range(1000), "connection refused"))
    _, values, _ = searched(lost)
    assert values["answer"] is None and values["run"]["stopped"] == "no reply from the model"


def test_a_search_that_was_cut_goes_on_as_if_it_had_not_been() -> None:
    own: dict[str, Any] = {"backtrack": 2, "steps": LINES, "seed": 4, "verifier": accepts("never")}
    whole, _, _ = searched(FakePolicy(rambling), **own, budget=Budget(nodes=40))
    saver = InMemorySaver()
    for nodes in (3, 17, 40):
        reasoner = create_coat(FakePolicy(rambling), **own, budget=Budget(nodes=nodes), checkpointer=saver)
        reasoner.invoke(ask() if nodes == 3 else {"messages": []}, thread())
    broken = grown(reasoner.get_state(thread()).values)
    assert broken.thoughts == whole.thoughts and broken.stats == whole.stats


COUNTDOWN = [
    "<|continue|>13 - 9 = 4 | 4 4 10", "<|continue|>10 + 4 = 14 | 4 14", "<|reflect|>back to 1",
    "<|explore|>10 - 4 = 6 | 4 6", "<|continue|>6 * 4 = 24 | 24",
]  # fmt: skip


class Specialist(FakePolicy):
    """A policy for the Game of 24 that has learned to write chains of action-thought."""

    prompts = Prompts.lacking(coat="{question}\ncoat")


def test_a_specialist_is_asked_in_its_own_words_and_checked_by_its_task() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        number = prefix.count("\n")
        return [(COUNTDOWN[number], -1.0, number == 4)]

    policy = Specialist(script, task="game24")
    result = create_coat(policy, seed=1).invoke(ask("4 9 10 13"))
    assert result["answer"] == "(10 - 4) * (13 - 9)" and len(policy.requests) == 5
    assert {request.messages[-1]["content"] for request in policy.requests} == {"4 9 10 13 : 24\ncoat"}


def test_a_specialist_that_has_not_learned_to_is_refused_before_it_is_asked() -> None:
    policy = FakePolicy(wander, task="game24")
    with pytest.raises(InputError, match="has not learned to coat"):
        create_coat(policy)
    assert policy.requests == []


@pytest.mark.parametrize(
    "parameters",
    [{"restarts": -1}, {"backtrack": -1}, {"thinking": 0}, {"restarts": 0, "backtrack": 2}],
)
def test_parameters_that_make_no_chain_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        create_coat(FakePolicy(wander), **parameters)
