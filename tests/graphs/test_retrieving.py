"""Retrieval in a search: trees derived by hand for each way to ask, and what goes wrong on the way."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver

from rlm_agent import (
    Budget,
    Calculator,
    Completion,
    FakePolicy,
    FakeValue,
    Request,
    Steps,
    ThoughtGraph,
    create_beam_search,
    create_best_first,
    create_best_of_n,
    create_chain,
    create_dvts,
    create_graph_of_thoughts,
    create_lats,
    create_mcts,
    create_react,
    create_self_consistency,
    create_tree_of_thoughts,
)
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.retrieval import Retrieval
from rlm_agent.models.support import SupportValue
from rlm_agent.operators.operations.making import Generate
from rlm_agent.operators.rules.means import Means
from rlm_agent.operators.rules.observations import acting
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import CheckpointError, InputError
from rlm_agent.structure.formats import WHOLE
from rlm_agent.tasks.answers import free_answer
from rlm_agent.tools.toolbox import Toolbox
from tests.graphs.scripts import ask, found, grown, thread
from tests.operators.libraries import Bad, Library, raises
from tests.structure.trees import plant

LAMPS = {"lamp": ["red lamp 3", "blue lamp 4", "old lamp 5"]}
PLENTY = Budget(calls=1000)
MINI = Path(__file__).parents[2] / "rlm_agent" / "models" / "weights" / "mini.gguf"
EACH, ONCE = Retrieval(Library(), when="each"), Retrieval(Library(), when="once")


def run(
    create: Callable[..., Reasoner], policy: FakePolicy, question: str = "lamp?", **keywords: Any
) -> tuple[ThoughtGraph, dict[str, Any], list[Any]]:
    """The tree after one question, the values of the final state, and the operators that were told of."""
    reasoner = create(policy, **{"budget": PLENTY, "seed": 5, "checkpointer": InMemorySaver(), **keywords})
    told: list[Any] = list(reasoner.stream(ask(question), thread(), stream_mode="custom"))
    values = reasoner.get_state(thread()).values
    return grown(values), values, [event for event in told if event["event"] == "operator"]


def tree(graph: ThoughtGraph, id: str | None = None) -> list[Any]:
    """A thought's children: each as its text and visits, with its own children if it has any."""
    listed = []
    for child in graph.children(id or graph.root):
        below = tree(graph, child)
        own = (graph.thoughts[child]["text"].removeprefix("Observation: "), graph.stats[child]["visits"])
        listed.append((*own, below) if below else own)
    return listed


def looks_up(question: str, prefix: str) -> list[Reply]:
    """Searches for a lamp, and answers with the last number that it has read."""
    if "Observation" not in prefix:
        return [("Action: search[lamp]", -1.0)]
    return [(f"Action: Finish[{re.findall('[0-9]+', prefix)[-1]}]", -1.0)]


def worth(**values: float) -> FakeValue:
    """A value that is that of the last of these words in the chain's last step, else ½."""
    return FakeValue(lambda steps: next((v for word, v in values.items() if word in steps[-1]), 0.5))


def sources_of(values: dict[str, Any]) -> Any:
    return values["messages"][-1].additional_kwargs.get("sources")


CHAIN = [
    "What does the lamp cost?",
    "Action: search[lamp]",
    "Observation: red lamp 3",
    "So three lamps are <<3*3=",
    "Observation: 9",
    "Action: search[table]",
    "Observation: (nothing was found)",
    "Action: Finish[9]",
]


def tells(question: str, prefix: str) -> list[Reply]:
    return [(CHAIN[prefix.count("\n")], -1.0)]


@pytest.mark.parametrize("create", [create_react, create_chain])
def test_a_chain_that_asks_reads_calculates_and_cites(create: Callable[..., Reasoner]) -> None:
    library, policy = Library(LAMPS), FakePolicy(tells)
    graph, values, told = run(create, policy, tools=[Calculator()], retriever=library)
    assert graph.steps(values["run"]["best"]) == CHAIN and values["answer"] == "9"
    operators = [graph.thoughts[id].get("operator") for id in graph.chain(values["run"]["best"])]
    assert operators == [None, None, "retrieve", None, "act", None, "retrieve", None]
    assert sources_of(values) == ["lamp/0"]
    assert library.asked == [(("lamp",), 1), (("table",), 1)]
    assert values["usage"]["nodes"] == 8 and values["usage"]["model_calls"] == 5
    retrieved = [event for event in told if event["operator"] == "retrieve"]
    ids = graph.chain(values["run"]["best"])
    assert [(event["inputs"], event["outputs"]) for event in retrieved] == [
        ([ids[1]], [ids[2]]), ([ids[5]], [ids[6]])
    ]  # fmt: skip
    assert "- search: Finds a passage" in policy.requests[0].messages[0]["content"]


def test_a_plain_loop_over_the_operators_writes_the_same_chain() -> None:
    policy, library = FakePolicy(tells), Library(LAMPS)
    _, values, _ = run(create_react, policy, "lamp?", tools=[Calculator()], retriever=library)
    asked, graph = policy.requests[0], plant("lamp?")
    retrieval = Retrieval(library, when="asked", alternatives=1)
    means = Means(Toolbox([Calculator(), retrieval]), retrieval, committed=True)
    steps = acting(Steps(answer=free_answer), means.tools)
    s = Setting(policy, asked.messages, 5, steps, asked.decoding)
    id = graph.root
    while graph.thoughts[id]["kind"] != "final":
        outcome = drive(means.expand(graph, [(id, 1)], s, Allowance()))
        graph, id = graph.updated(outcome.writes), outcome.outputs[-1]
    assert dict(graph.thoughts) == values["thoughts"]


def says(*steps: str) -> Callable[[str, str], list[Reply]]:
    """A policy's own steps in order, whatever observations stand between; the last one ends the answer."""

    def script(question: str, prefix: str) -> list[Reply]:
        own = [line for line in prefix.split("\n")[:-1] if not line.startswith("Observation")]
        return [(steps[len(own)], -1.0, len(own) + 1 == len(steps))]

    return script


def test_at_every_step_the_step_is_the_query() -> None:
    library = Library({"a lamp": ["red"], "and a table": ["oak", "ash"]})
    retrieval = Retrieval(library, when="each", passages=2)
    graph, values, _ = run(
        create_chain, FakePolicy(says("a lamp", "and a table", "that is 7")), retriever=retrieval
    )
    assert graph.steps(values["run"]["best"]) == [
        "a lamp", "Observation: red", "and a table", "Observation: [1] oak [2] ash", "that is 7"
    ]  # fmt: skip
    assert library.asked == [(("a lamp",), 2), (("and a table",), 2)]
    assert sources_of(values) == ["a lamp/0", "and a table/0", "and a table/1"]
    assert values["answer"] == "7"


def test_where_the_policy_is_unsure_its_step_is_the_query() -> None:
    """Of two equally likely words, ln 2 nats are spread over the word and its end: 0.347 a token."""

    def script(question: str, prefix: str) -> list[Reply]:
        if not prefix:
            return [("sure", -1.0)]
        return [("maybe", -1.0)] * 2 if prefix == "sure\n" else [("7", -1.0, True)]

    for bound, read in ((0.34, ["Observation: red"]), (0.35, [])):
        library = Library(default=["red"])
        retrieval = Retrieval(library, when="unsure", entropy=bound)
        graph, values, _ = run(create_chain, FakePolicy(script), retriever=retrieval)
        assert graph.steps(values["run"]["best"]) == ["sure", "maybe", *read, "7"]


@pytest.mark.parametrize(
    ("create", "keywords"),
    [
        (create_chain, {}),
        (create_mcts, {"simulations": 4}),
        (create_tree_of_thoughts, {"value": worth()}),
        (create_self_consistency, {"n": 3}),
    ],
)
def test_once_before_the_search_every_branch_reads_the_same_beginning(
    create: Callable[..., Reasoner], keywords: dict[str, Any]
) -> None:
    library, policy = Library({"lamp?": ["red 3", "blue 4"]}), FakePolicy(says("so", "it is 3"))
    retrieval = Retrieval(library, when="once", passages=2)
    graph, values, told = run(create, policy, retriever=retrieval, **keywords)
    begun = "Observation: red 3\nObservation: blue 4\n"
    assert len(policy.requests) >= 2 and all(one.prefix.startswith(begun) for one in policy.requests)
    assert library.asked == [(("lamp?",), 2)]
    assert graph.thoughts[graph.root]["sources"] == ["lamp?/0", "lamp?/1"]
    assert told[0]["operator"] == "retrieve" and told[0]["outputs"] == [graph.root]
    if values["answer"] is not None:
        assert sources_of(values) == ["lamp?/0", "lamp?/1"]


def test_an_answer_is_not_read_off_a_passage() -> None:
    for when in ("once", "each"):
        retrieval = Retrieval(Library(default=["It is 9."]), when=when)
        _, values, _ = run(create_chain, FakePolicy(says("so", "I do not know")), retriever=retrieval)
        assert values["answer"] is None


def test_given_steps_stand_behind_what_was_retrieved_and_the_search_is_gone_on_with() -> None:
    policy, library, saver = FakePolicy(says("given", "so", "7")), Library(default=["red"]), InMemorySaver()
    common: dict[str, Any] = {"retriever": Retrieval(library, when="once"), "seed": 5, "checkpointer": saver}
    given = {**ask(), "terms": {"given": ["given"]}}
    create_chain(policy, budget=Budget(calls=1), **common).invoke(given, thread())
    result = create_chain(policy, budget=PLENTY, **common).invoke(
        {"messages": [], "terms": given["terms"]}, thread()
    )
    assert [one.prefix for one in policy.requests] == [
        "Observation: red\ngiven\n", "Observation: red\ngiven\nso\n"
    ]  # fmt: skip
    assert result["answer"] == "7" and len(library.asked) == 1


def test_passages_are_the_branches_of_monte_carlo_tree_search() -> None:
    """Two children each, with rollouts. Round 1 goes down the first passage, 2 down the second; the values
    of their ends then draw 3 and 4 to the second one, which is given its second child and is full.
    """
    value = worth(**{"[3]": 0.1, "[4]": 0.9})
    keywords: dict[str, Any] = {"branching": 2, "widening": 0.0, "simulations": 3, "value": value}
    library = Library(LAMPS)
    graph, values, told = run(create_mcts, FakePolicy(looks_up), retriever=library, **keywords)
    red, blue = (
        ("red lamp 3", 1, [("Action: Finish[3]", 1)]),
        ("blue lamp 4", 2, [("Action: Finish[4]", 1)] * 2),
    )
    assert tree(graph) == [("Action: search[lamp]", 3, [red, blue]), ("Action: search[lamp]", 0)]
    assert values["answer"] == "4" and sources_of(values) == ["lamp/1"]
    assert library.asked == [(("lamp",), 4)]
    grew = [event["operator"] for event in told if event["operator"] not in ("evaluate", "backpropagate")]
    assert grew == [
        "select", "generate", "retrieve", "generate", "select", "retrieve", "generate", "select", "generate"
    ]  # fmt: skip


def test_a_query_is_widened_as_far_as_there_are_passages_and_then_given_up() -> None:
    """x1 with three children: each search has its three passages, each passage three ends, and no more."""
    keywords: dict[str, Any] = {
        "branching": 3,
        "widening": 0.0,
        "rollout": False,
        "retriever": Library(LAMPS),
    }
    graph, values, _ = run(create_mcts, FakePolicy(looks_up), **keywords)
    assert values["run"]["stopped"] == "exhausted"
    for search in graph.children(graph.root):
        assert [len(graph.children(one)) for one in graph.children(search)] == [3, 3, 3]
        assert graph.stats[search]["closed"]


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("widening", [0.5, 0.7])
@pytest.mark.parametrize("texts", [[], ["one 1"], ["one 1", "two 2"]])
def test_widening_never_asks_for_a_passage_that_is_not_there(
    widening: float, texts: list[str], parallel: int
) -> None:
    library = Library({"lamp": texts}, default=texts)
    policy = FakePolicy(says("Action: search[lamp]", "Action: Finish[1]"))
    keywords: dict[str, Any] = {
        "widening": widening,
        "rollout": False,
        "simulations": 40,
        "parallel": parallel,
    }
    graph, values, _ = run(create_mcts, policy, retriever=library, **keywords)
    assert values["run"]["round"] == 40 and len(library.asked) == 1
    searches = [id for id in graph.walk() if graph.thoughts[id]["text"] == "Action: search[lamp]"]
    assert max(graph.stats[id]["children"] for id in searches) == max(1, len(texts))
    assert all(graph.thoughts[id]["kind"] != "failed" for id in graph.walk())


def test_passages_compete_in_a_beam() -> None:
    """Of two searches with two passages each, the two best passages go on, whoever asked for them."""
    library = Library({"lamp": ["red 3", "blue 4"], "table": ["oak 5", "ash 6"]})
    value = worth(lamp=0.9, table=0.8, blue=0.7, ash=0.6, red=0.2, oak=0.1, **{"[6]": 1.0})

    def script(question: str, prefix: str) -> list[Reply]:
        if not prefix:
            return [("Action: search[lamp]", -1.0), ("Action: search[table]", -1.0)]
        return looks_up(question, prefix)

    policy = FakePolicy(script, cycle=True)
    keywords: dict[str, Any] = {"width": 2, "expansions": 2, "value": value, "retriever": library}
    graph, values, _ = run(create_beam_search, policy, **keywords)
    lamp, table, *repeats = graph.children(graph.root)
    assert [graph.stats[id]["closed"] for id in repeats] == [True, True]
    kept = [id for search in (lamp, table) for id in graph.children(search) if not graph.stats[id]["closed"]]
    assert [graph.thoughts[id]["text"] for id in kept] == ["Observation: blue 4", "Observation: ash 6"]
    assert library.asked == [(("lamp", "table"), 4)]
    assert values["answer"] == "6" and sources_of(values) == ["table/1"]


def test_best_first_takes_passage_by_passage_and_leaves_a_query_that_has_them_all() -> None:
    """The query promises more than its best passage even when there is none left: (2 · .9 + .32) / 5."""
    value = worth(search=0.9, red=0.01, blue=0.01, old=0.3)
    common: dict[str, Any] = {"value": value, "hope": 0.05, "budget": Budget(nodes=5)}
    graph, values, _ = run(create_best_first, FakePolicy(looks_up), retriever=Library(LAMPS), **common)
    (search,) = graph.children(graph.root)
    assert [graph.thoughts[id]["text"] for id in graph.children(search)] == [
        "Observation: red lamp 3", "Observation: blue lamp 4", "Observation: old lamp 5"
    ]  # fmt: skip
    assert values["answer"] == "5" and not graph.stats[search]["closed"]


@pytest.mark.parametrize(
    ("create", "keywords"),
    [
        (create_best_of_n, {"n": 5}),
        (create_self_consistency, {"n": 5}),
        (create_dvts, {"n": 4, "width": 2}),
        (create_lats, {"simulations": 3}),
    ],
)
def test_chains_that_ask_the_same_are_answered_by_one_search(
    create: Callable[..., Reasoner], keywords: dict[str, Any]
) -> None:
    library = Library(LAMPS)
    _, values, _ = run(create, FakePolicy(looks_up), retriever=library, **keywords)
    assert values["answer"] == "3" and len(library.asked) == 1
    assert sources_of(values) == ["lamp/0"]


def test_a_search_for_support_finds_what_a_misleading_first_passage_hides_at_equal_tokens() -> None:
    """Of three goods, the first passage for the second one is about another; no gold answer is known."""
    library = Library(
        {
            "Zorb lamp, blue": ["Zorb lamp, blue: 12 dollars", "Zorb lamp, red: 9 dollars"],
            "Quax lamp, red": ["Quax lamp, blue: 31 dollars", "Quax lamp, red: 27 dollars"],
            "Mivo lamp, old": ["Mivo lamp, old: 8 dollars", "Mivo lamp, new: 6 dollars"],
        }
    )

    def script(question: str, prefix: str) -> list[Reply]:
        if "Observation" not in prefix:
            return [(f"Action: search[{question}]", -1.0)]
        return [(f"Action: Finish[{re.findall('[0-9]+', prefix)[-1]}]", -1.0)]

    gold, right = {"Zorb lamp, blue": "12", "Quax lamp, red": "27", "Mivo lamp, old": "8"}, {}
    for create, keywords in ((create_mcts, {"value": SupportValue()}), (create_react, {})):
        common: dict[str, Any] = {"retriever": library, "budget": Budget(tokens=40), **keywords}
        answers = {one: run(create, FakePolicy(script), one, **common)[1]["answer"] for one in gold}
        right[create] = sum(answers[question] == gold[question] for question in gold)
    assert right == {create_mcts: 3, create_react: 2}


def test_a_retriever_that_fails_ends_no_search() -> None:
    cases: list[tuple[Callable[..., Reasoner], dict[str, Any]]] = [
        (create_react, {}),
        (create_mcts, {"simulations": 5}),
    ]
    for create, keywords in cases:
        policy = FakePolicy(says("Action: search[lamp]", "Action: Finish[I cannot know]"))
        graph, values, _ = run(create, policy, retriever=Bad(raises), **keywords)
        assert values["answer"] == "I cannot know" and sources_of(values) is None
        search = graph.children(graph.root)[0]
        assert [graph.thoughts[id]["text"] for id in graph.children(search)] == [
            "Observation: Error: OSError: the index is gone"
        ]


def test_a_policy_that_makes_an_observation_up_fails() -> None:
    retrieval = Retrieval(Library(), when="each")
    graph, values, _ = run(create_chain, FakePolicy(says("Observation: I know", "7")), retriever=retrieval)
    (id,) = graph.children(graph.root)
    assert values["answer"] is None and graph.thoughts[id]["kind"] == "failed"


def test_a_specialists_step_checker_is_not_asked_about_calls_and_observations() -> None:
    steps = [
        "13 - 9 = 4 | 4 4 10",
        "Action: search[lamp]",
        "Observation: red lamp 3",
        "so <<4+10=",
        "Observation: 14",
        "4 + 10 = 14 | 4 14",
        "14 + 4 = 18",
    ]

    def script(question: str, prefix: str) -> list[Reply]:
        return [(steps[prefix.count("\n")], -1.0)]

    common: dict[str, Any] = {"steps": "countdown", "tools": [Calculator()], "retriever": Library(LAMPS)}
    graph, values, _ = run(create_react, FakePolicy(script), "4 9 10 13 : 18", **common)
    assert values["answer"] is not None
    assert graph.steps(values["run"]["best"]) == steps
    wrong = FakePolicy(says("Action: search[lamp]", "13 - 9 = 5 | 5 4 10"))
    graph, values, _ = run(create_react, wrong, "4 9 10 13 : 18", **common)
    reasons = [thought["reason"] for thought in graph.thoughts.values() if thought["kind"] == "failed"]
    assert len(reasons) == 1 and values["answer"] is None


class Breaks(FakePolicy):
    """A policy that is gone after some batches."""

    def __init__(self, script: Any, batches: int) -> None:
        super().__init__(script)
        self._left = batches

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self._left -= 1
        if self._left < 0:
            raise ConnectionError("the model is gone")
        return super().generate(requests)


@pytest.mark.parametrize("rollout", [False, True])
@pytest.mark.parametrize("batches", [1, 2, 3, 5])
def test_a_search_that_broke_off_is_taken_up_by_another_process(
    rollout: bool, batches: int, tmp_path: Path
) -> None:
    """A new connection, saver, policy, graph and retriever stand for the other process."""

    def reasoner(policy: FakePolicy, **keywords: Any) -> Reasoner:
        common: dict[str, Any] = {"rollout": rollout, "branching": 2, "widening": 0.0, "simulations": 30}
        common |= {"retriever": Library(LAMPS), "value": SupportValue()}
        return create_mcts(policy, seed=5, budget=PLENTY, tools=[Calculator()], **{**common, **keywords})

    def script(question: str, prefix: str) -> list[Reply]:
        if "Observation: " in prefix and "<<" not in prefix:
            return [(f"so <<{re.findall('[0-9]', prefix)[-1]}*2=", -1.0), *looks_up(question, prefix)]
        return looks_up(question, prefix)

    whole = reasoner(FakePolicy(script), checkpointer=InMemorySaver())
    whole.invoke(ask(), thread())
    expected = found(whole.get_state(thread()).values)
    with closing(sqlite3.connect(tmp_path / "thread.db", check_same_thread=False)) as connection:
        broken = reasoner(Breaks(script, batches), checkpointer=SqliteSaver(connection))
        with pytest.raises(ConnectionError):
            broken.invoke(ask(), thread())
    with closing(sqlite3.connect(tmp_path / "thread.db", check_same_thread=False)) as connection:
        resumed = reasoner(FakePolicy(script), checkpointer=SqliteSaver(connection))
        resumed.invoke(None, thread())
        assert found(resumed.get_state(thread()).values) == expected
    operators = {thought.get("operator") for thought in expected[0].values()}
    assert operators == {None, "act", "retrieve"}


@pytest.mark.parametrize("when", ["asked", "once"])
def test_a_search_is_not_continued_with_another_retriever(when: Any) -> None:
    class Other(Library):
        identity = "other library"

    saver = InMemorySaver()
    common: dict[str, Any] = {"seed": 5, "checkpointer": saver, "budget": Budget(calls=1)}
    policy = FakePolicy(says("Action: search[lamp]", "so", "7"))
    create_react(policy, retriever=Retrieval(Library(LAMPS), when=when), **common).invoke(ask(), thread())
    for other in (Retrieval(Other(LAMPS), when=when), None):
        with pytest.raises(CheckpointError):
            create_react(policy, retriever=other, **common).invoke({"messages": []}, thread())


@pytest.mark.parametrize(
    ("create", "keywords", "message"),
    [
        (create_react, {"retriever": "docs"}, "str is no retriever"),
        (create_tree_of_thoughts, {"retriever": Retrieval(Library(), when="each")}, "say when='once'"),
        (create_graph_of_thoughts, {"operations": (Generate("one"),), "retriever": Library()}, "by line"),
        (create_react, {"retriever": Library(), "steps": Steps(format=WHOLE)}, "by line or paragraph"),
        (create_chain, {"retriever": EACH, "steps": Steps(format=WHOLE)}, "by line or paragraph"),
        (create_mcts, {"retriever": ONCE, "steps": Steps(format=WHOLE)}, "by line or paragraph"),
        (create_react, {"retriever": Library(), "tools": [ONCE]}, "two tools are named 'search'"),
    ],
)
def test_what_contradicts_itself_is_refused_with_a_remedy(
    create: Callable[..., Reasoner], keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        create(FakePolicy(looks_up), **keywords)


def test_mini_has_not_learned_to_ask_and_is_read_to_before_the_search() -> None:
    with pytest.raises(InputError, match="has not learned to act"):
        create_mcts("mini", retriever=Retrieval(Library(), when="asked"))
    library = Library(default=["red lamp 3 dollars"])
    create_mcts("mini", retriever=library, budget=Budget(calls=2), seed=1).invoke(ask("4 9 10 13 : 24"))
    assert library.asked == [(("4 9 10 13 : 24",), 1)]


class Recorded(GGUFPolicy):
    """A real model that keeps what it was asked and what that took."""

    asked: list[Request]
    computed: int

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        completions = super().generate(requests)
        self.asked += requests
        self.computed += sum(one.prompt_tokens for one in completions)
        return completions


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    with closing(Recorded(MINI)) as policy:
        yield policy


@pytest.mark.parametrize(
    ("question", "when", "create", "keywords"),
    [
        ("4 9 10 13 : 24", "once", create_best_of_n, {"n": 8, "budget": Budget(calls=8)}),
        ("1 5 5 5 : 24", "once", create_mcts, {"simulations": 15}),
        ("3 3 8 8 : 24", "each", create_mcts, {"simulations": 15, "rollout": False}),
        ("2 3 5 12 : 24", "each", create_beam_search, {"budget": Budget(calls=60)}),
    ],
)
def test_the_engine_computes_a_passage_once_for_all_that_follows_it(
    recorded: Recorded,
    question: str,
    when: Any,
    create: Callable[..., Reasoner],
    keywords: dict[str, Any],
) -> None:
    """No prompt token is computed twice: all of them are at most the branches of the tree of prompts."""
    recorded.asked, recorded.computed = [], 0
    library = Library(default=["3 4 5 6 7 8 9 10 11 12", "13 14 15 16 17 18 19 20"])
    retrieval = Retrieval(library, when=when, passages=2 if when == "once" else 1)
    common: dict[str, Any] = {"retriever": retrieval, "seed": 1, "stop_when_verified": False, **keywords}
    create(recorded, **common).invoke(ask(question))
    prompts = [recorded.prompt(one.messages, one.prefix) for one in recorded.asked]
    branches = {tuple(prompt[:end]) for prompt in prompts for end in range(1, len(prompt) + 1)}
    assert 0 < recorded.computed <= len(branches) < sum(map(len, prompts))
    if when == "once":  # all that is computed is the beginning that all share
        assert len(prompts[0]) - 1 <= recorded.computed <= len(prompts[0]) + len(prompts)
