"""LLaMA-Berry: a tree derived by hand, the same from a plain loop, and what must not stop it."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, Checked, Completion, FakePolicy, FakeValue, Request, Steps, ThoughtGraph
from rlm_agent.graphs.llama_berry import create_llama_berry
from rlm_agent.graphs.machine.graph import nodes_of
from rlm_agent.graphs.machine.skeleton import compile_search
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.judges import JudgePreference
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Candidate, Message, Score
from rlm_agent.operators.generate import generate
from rlm_agent.operators.refine import improve
from rlm_agent.operators.rules.borda import ranked
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.formats import WHOLE
from tests.graphs import scripts
from tests.graphs.scripts import accepts, ask, guess, thread, wander
from tests.structure.trees import plant

PROMPTS = Prompts()
WHOLES = Steps(format=WHOLE, max_tokens=6)


class Scribe(FakePolicy):
    """A policy that solves by "a" and rewrites solutions, in turn, as a table says, or else not at all."""

    def __init__(self, rewrites: dict[str, str], *, task: str | None = None) -> None:
        super().__init__(lambda question, prefix: [])
        self.task = task
        self._left = {text: iter(others) for text, others in rewrites.items()}

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.requests += requests
        return [Completion(self._say(request.messages), 2, -1.0, "end") for request in requests]

    def _say(self, messages: tuple[Message, ...]) -> str:
        said = [message["content"] for message in messages]
        if said[-1] == PROMPTS.critique:
            return f"mend {said[-2]}"
        if said[-1] != PROMPTS.rewrite:
            return "a"
        return next(self._left.get(said[-4], iter(())), said[-4])


class Ladder:
    """A preference for the solution that stands later in an order of merits, P = .8."""

    identity = "ladder"

    def __init__(self, merits: str) -> None:
        self.merits = merits
        self.pairs: list[str] = []

    def prefer(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Score]:
        names = [(first.steps[0], second.steps[0]) for first, second in pairs]
        self.pairs += ["".join(pair) for pair in names]
        return [Score(0.8 if self._better(*pair) else 0.2) for pair in names]

    async def aprefer(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Score]:
        return self.prefer(pairs)

    def _better(self, first: str, second: str) -> bool:
        return self.merits.index(first) > self.merits.index(second)


searched = partial(scripts.searched, create_llama_berry, steps=WHOLES)


def named(graph: ThoughtGraph) -> dict[str, str]:
    """The ids of the solutions by their texts, without repeats."""
    return {graph.thoughts[id]["text"]: id for id in ranked(graph)}


def test_a_tree_of_five_rounds_is_the_one_derived_by_hand() -> None:
    """The merits are d < b < a < c < e, and P = .8 for the better one; α = .9, γ = .1, c = 1.4.

    1. a, alone: ½.
    2. a has no rewrite: b. Q_g a 1, b 0; Q_l a .8, b .2. Q: a .98, b .02. Backup: a .9·.98 + .1·.02 = .884.
    3. a has one rewrite: c. Q_g c 1, a ½, b 0; Q_l c .8, a (.8 + .2)/2, b .2. Q: c .98, a .5, b .02.
       Backup: a .9·.5 + .002 = .452 by b, .9·.452 + .098 = .5048 by c.
    4. a has two and c is better: fully explored. UCT with √ln 4 = 1.177: b .02 + 1.648, c .98 + 1.648 → c: d.
       Q_g c 1, a ⅔, b ⅓, d 0; Q_l c .8, a ½, b .2, d .2. Q: c .98, a .65, b .32, d .02.
       Backup: c .884; a .617 by b, .9·.617 + .1·.884 = .6437 by c.
    5. UCT with ln 5 = 1.609: b .32 + 1.776, c .884 + 1.4 √(1.609/2) = 2.140 → c: e.
       Q_g e 1, c ¾, a ½, b ¼, d 0; Q_l e .8, c (.8 + .8 + .2)/3 against a, d and e, a ½, b .2, d .2.
       Q: e .98, c .735, a .5, b .245, d .02. Backup: c .6635 by d, .69515 by e; a .4745 by b, .496565 by c.
    """
    policy = Scribe({"a": "bc", "c": "de"})
    ladder = Ladder("dbace")
    graph, values = searched(policy, preference=ladder, simulations=5)
    ids = named(graph)
    parents = {name: graph.thoughts[id]["parent"] for name, id in ids.items()}
    assert parents == {"a": graph.root, "b": ids["a"], "c": ids["a"], "d": ids["c"], "e": ids["c"]}
    assert {name: graph.stats[id]["visits"] for name, id in ids.items()} == {
        "a": 5, "b": 1, "c": 3, "d": 1, "e": 1
    }  # fmt: skip
    assert {name: (graph.stats[id]["q"] + 1) / 2 for name, id in ids.items()} == pytest.approx(
        {"e": 0.98, "c": 0.69515, "a": 0.496565, "b": 0.245, "d": 0.02}
    )
    assert ladder.pairs == ["ba", "ca", "cb", "dc", "da", "db", "ec", "ea", "eb", "ed"]
    assert graph.stats[graph.root]["visits"] == 5
    assert [graph.stats[ids[name]].get("feedback") for name in "abc"] == ["mend a", None, "mend c"]
    assert all(graph.thoughts[ids[name]].get("operator") == "refine" for name in "bcde")
    assert all(graph.steps(id) == [name] for name, id in ids.items())
    assert (values["answer"], values["run"]["stopped"]) == ("e", "rounds")


def test_a_backup_within_the_evaluation_is_an_event_of_its_own_and_the_same_as_one_behind_it() -> None:
    """The same rules with a node for the backup: what is told, and what is written, is equal."""
    told = []
    for at_once in (True, False):
        policy, saver = Scribe({"a": "bc", "c": "de"}), InMemorySaver()
        nodes = nodes_of(
            create_llama_berry(policy, steps=WHOLES, preference=Ladder("dbace"), simulations=5, seed=1)
        )
        reasoner = compile_search(
            "berry", "llama_berry", replace(nodes.rules, at_once=at_once), nodes.parts, checkpointer=saver
        )
        assert ("backpropagate" in reasoner.nodes) is not at_once
        events = [
            event
            for event in reasoner.stream(ask(), thread(), stream_mode="custom")
            if event["event"] in ("operator", "thought", "value")
        ]
        values = reasoner.get_state(thread()).values
        told.append((events, values["thoughts"], values["stats"]))
    assert told[0] == told[1]
    backups = [event for event in told[0][0] if event.get("operator") == "backpropagate"]
    assert len([event for event in backups if event["event"] == "operator"]) == 5


async def test_a_round_that_the_time_breaks_off_is_the_last_one() -> None:
    """The plan of the next round is made where the round ends; the plan of this one is no plan for it."""

    class Slow(Ladder):
        async def aprefer(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Score]:
            await asyncio.sleep(60)
            return []

    reasoner = create_llama_berry(
        Scribe({"a": "bc"}), steps=WHOLES, preference=Slow("ab"), budget=Budget(seconds=0.5)
    )
    nodes = [name async for chunk in reasoner.astream(ask(), stream_mode="updates") for name in chunk]
    assert nodes[-2:] == ["evaluate", "conclude"]
    assert nodes.count("refine") <= 2 and nodes.count("select") == 1


def test_a_less_visited_solution_is_tried_once_its_bonus_makes_up_for_its_value() -> None:
    """In round 5 of the golden tree b lacks .564. With c = 1.6, its bonus is larger by

    1.6 · (1 − 1/√2) · √ln 5 = .595 (by √ln 4, it would be .552).
    """
    policy = Scribe({"a": "bc", "c": "de", "b": "f"})
    graph, _ = searched(policy, preference=Ladder("fdbace"), simulations=5, c=1.6)
    ids = named(graph)
    assert set(ids) == set("abcdf")
    assert graph.thoughts[ids["f"]]["parent"] == ids["b"]


def test_a_rewrite_that_is_only_as_good_does_not_let_the_search_go_deeper() -> None:
    class Even(Ladder):
        def prefer(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Score]:
            return [Score(0.5)] * len(pairs)

    graph, _ = searched(Scribe({"a": "bcd", "b": "e", "c": "e"}), preference=Even(""), simulations=4)
    ids = named(graph)
    assert [graph.thoughts[ids[name]]["parent"] for name in "bcd"] == [ids["a"]] * 3


@pytest.mark.parametrize("most", [1, 2])
def test_no_pair_is_asked_twice_and_no_round_asks_more_than_its_bound(most: int) -> None:
    ladder = Ladder("fedcba")
    searched(Scribe({"a": "bcdef"}), preference=ladder, simulations=6, comparisons=most)
    assert len({frozenset(pair) for pair in ladder.pairs}) == len(ladder.pairs)
    assert max(Counter(pair[0] for pair in ladder.pairs).values()) == most
    assert ladder.pairs[0] == "ba"


class Plain:
    """SR-MCTS as its paper has it, over the operators that write, with Q and N in tables of its own."""

    def __init__(self, policy: FakePolicy, seed: int, value: Callable[[Sequence[str]], float]) -> None:
        message = Message(role="user", content="where to?")
        self.setting = Setting(policy, (message,), seed, WHOLES)
        self.graph = plant("where to?")
        self.value = value
        self.q: dict[str, float] = {}
        self.n: Counter[str] = Counter()
        self.known: dict[tuple[str, str], float] = {}
        self.dead: set[str] = set()

    def round(self) -> None:
        id = self.graph.root
        while not self.wants(id):
            children = [child for child in self.graph.children(id) if child not in self.dead]
            id = max(children, key=lambda child: self.uct(id, child))
        operator = generate if id == self.graph.root else improve
        written = drive(operator(self.graph, [(id, 1)], self.setting, Allowance()))
        self.graph = self.graph.updated(written.writes)
        for new in written.outputs:
            self.enter(new)
            self.n.update(self.graph.path(new))
        if not written.outputs and "feedback" not in self.graph.stats[id]:
            self.dead.add(id)
        self.rank()
        for start in written.outputs or [id]:
            self.bury(start)

    def wants(self, id: str) -> bool:
        children = self.graph.children(id)
        if id == self.graph.root:
            return self.dead.issuperset(children)
        better = [child for child in children if self.q.get(child, 0.5) > self.q[id]]
        return len(children) < 2 or (self.dead.issuperset(better) and self.barren(id) < 3)

    def uct(self, parent: str, child: str) -> float:
        return self.q[child] + 1.4 * math.sqrt(math.log(self.n[parent] + 1) / self.n[child])

    def barren(self, id: str) -> int:
        return sum(child not in self.q for child in self.graph.children(id))

    def enter(self, new: str) -> None:
        text = self.graph.thoughts[new]["text"]
        if not text or text in {self.graph.thoughts[id]["text"] for id in self.q}:
            self.dead.add(new)
            return
        for other in self.q:
            self.compare(new, other)
        self.q[new] = 0.5

    def compare(self, new: str, other: str) -> None:
        failed = [self.graph.thoughts[id]["kind"] == "failed" for id in (new, other)]
        if all(failed):
            return
        if any(failed):
            p = float(failed[1])
        else:
            a, b = self.value(self.graph.steps(new)), self.value(self.graph.steps(other))
            p = a * (1 - b) / (a * (1 - b) + b * (1 - a))
        self.known[new, other], self.known[other, new] = p, 1 - p

    def rank(self) -> None:
        ids = list(self.q)
        won = {(a, b): self.known.get((a, b), 0.0) >= 0.5 for a in ids for b in ids}
        for k in ids:
            won |= {(a, b): won[a, b] or (won[a, k] and won[k, b]) for a in ids for b in ids}
        borda = {a: sum(won[a, b] for b in ids if a != b) for a in ids}
        soft = {
            a: round(sum(self.known.get((a, b), 0.5) for b in ids if borda[a] == borda[b]), 9) for a in ids
        }
        place = {a: (borda[a], soft[a]) for a in ids}
        for a in ids:
            above = sum(place[b] > place[a] for b in ids)
            equal = sum(place[b] == place[a] for b in ids)
            score = 1 - (above + (equal - 1) / 2) / (len(ids) - 1) if len(ids) > 1 else 0.5
            near = [b for b in ids if a == self.parent(b) or b == self.parent(a)]
            local = [self.known[a, b] for b in near if (a, b) in self.known]
            self.q[a] = 0.9 * score + 0.1 * sum(local) / len(local) if local else score
        self.share(self.graph.root)

    def share(self, id: str) -> None:
        for child in self.graph.children(id):
            self.share(child)
            if id in self.q and child in self.q:
                self.q[id] = 0.9 * self.q[id] + 0.1 * self.q[child]

    def parent(self, id: str) -> str | None:
        return self.graph.thoughts[id]["parent"]

    def bury(self, id: str) -> None:
        for above in reversed(self.graph.path(id)[1:-1]):
            if not self.dead.issuperset(self.graph.children(above)) or self.barren(above) < 3:
                break
            self.dead.add(above)


def chatter(question: str, prefix: str) -> list[Reply]:
    """Thirty solutions, and replies that fail."""
    said: list[Reply] = [(f"answer {number}", -3.0, True) for number in range(30)]
    return [*said, ("", -1.5), ("word after word after word after word", -1.5), ("far too long " * 3, -1.5)]


@pytest.mark.parametrize("seed", [3, 11, 23, 31])
def test_a_plain_loop_grows_the_same_tree(seed: int) -> None:
    policy, rounds = FakePolicy(chatter), 40
    graph, values = searched(policy, value=FakeValue(guess), comparisons=99, simulations=rounds, seed=seed)
    plain = Plain(policy, seed, guess)
    for _ in range(rounds):
        plain.round()
    assert plain.graph.thoughts == graph.thoughts
    assert values["run"]["round"] == rounds
    assert plain.n == Counter({id: stats["visits"] for id, stats in graph.stats.items()})
    assert plain.dead == {id for id, stats in graph.stats.items() if stats["closed"]}
    ranked = {id: (stats["q"] + 1) / 2 for id, stats in graph.stats.items() if "preferences" in stats}
    assert ranked == pytest.approx(plain.q)
    kinds = Counter(thought["kind"] for thought in graph.thoughts.values())
    assert kinds["final"] > 5 and kinds["failed"] > 5


def legal(question: str, state: str | None, solution: str) -> Checked:
    """Solutions in capital letters are refused."""
    return Checked(reason="it shouts") if solution.isupper() else Checked(final=True)


def checked(check: Any) -> Steps:
    """Whole solutions with a checker."""
    return Steps(format=WHOLE, max_tokens=6, check=check)


def test_a_refused_solution_ranks_below_all_that_stand_and_is_rewritten_like_them() -> None:
    """B, refused, is the better of a's children as long as it is the only one."""
    policy, ladder = Scribe({"a": "BC", "B": "d", "C": "e"}), Ladder("ade")
    graph, _ = searched(policy, preference=ladder, simulations=12, c=9.0, steps=checked(legal))
    ids = named(graph)
    kinds = {name: graph.thoughts[ids[name]]["kind"] for name in "aBCde"}
    assert kinds == {"a": "final", "B": "failed", "C": "failed", "d": "final", "e": "final"}
    assert graph.thoughts[ids["d"]]["parent"] == ids["B"]
    assert not {"B", "C"} & set("".join(ladder.pairs))
    q = {name: graph.stats[ids[name]]["q"] for name in "aBCde"}
    assert max(q["B"], q["C"]) < min(q["a"], q["d"], q["e"])


@pytest.mark.parametrize("task", [None, "game24"])
def test_a_general_model_gets_the_reason_and_a_specialist_criticises_by_itself(task: str | None) -> None:
    class Loud(Scribe):
        prompts = PROMPTS

        def _say(self, messages: tuple[Message, ...]) -> str:
            return {1: "A", 3: "mend it", 5: "b"}[len(messages) - (messages[0]["role"] == "system")]

    policy = Loud({}, task=task)
    verifier = accepts("none")
    graph, _ = searched(
        policy, preference=Ladder("Ab"), simulations=2, steps=checked(legal), verifier=verifier
    )
    first, rewritten = list(graph.walk())[1:]
    assert graph.thoughts[first].get("reason") == "it shouts"
    assert graph.stats[first].get("feedback") == ("it shouts" if task is None else "mend it")
    assert len(policy.requests) == (2 if task is None else 3)
    assert graph.thoughts[rewritten]["kind"] == "final"


def test_the_steps_of_a_task_make_one_solution_and_are_checked_one_by_one() -> None:
    def rising(question: str, state: str | None, step: str) -> Checked:
        return Checked(state=step) if step > (state or "") else Checked(reason="falls")

    steps = Steps(max_tokens=4, max_steps=3, check=rising)
    replies: list[Reply] = [("a\nb", -1.0, True), ("b\na", -1.0, True)]
    policy = FakePolicy(lambda question, prefix: replies, cycle=True)
    graph, values = searched(policy, starts=2, simulations=1, steps=steps, value=FakeValue(guess))
    good, bad = graph.children(graph.root)
    assert (graph.thoughts[good]["kind"], values["answer"]) == ("final", "b")
    assert graph.thoughts[bad].get("reason") == "step 2: falls"
    assert {request.max_tokens for request in policy.requests} == {12}
    assert {request.stop for request in policy.requests} == {()}


def test_a_verified_solution_ends_the_search_and_outranks_the_others() -> None:
    common: dict[str, Any] = {"preference": Ladder("cba"), "verifier": accepts("c")}
    _, values = searched(Scribe({"a": "bc"}), **common)
    assert (values["answer"], values["run"]["stopped"]) == ("c", "verified")
    graph, values = searched(Scribe({"a": "bc"}), **common, stop_when_verified=False, simulations=6)
    assert values["answer"] == "c"
    assert graph.stats[named(graph)["c"]]["q"] == max(stats["q"] for stats in graph.stats.values())


def test_a_policy_that_repeats_itself_is_given_up_and_asked_for_another_solution() -> None:
    graph, values = searched(Scribe({"a": "a" * 99}), preference=Ladder("a"), budget=Budget(nodes=9))
    first, *others = graph.children(graph.root)
    assert graph.stats[first]["children"] == 3
    assert all(graph.stats[id]["closed"] for id in (first, *others))
    assert (len(others), values["answer"], values["run"]["stopped"]) == (5, "a", "nodes")


def test_a_solution_without_a_usable_critique_is_given_up() -> None:
    class Mute(Scribe):
        def _say(self, messages: tuple[Message, ...]) -> str:
            return "" if messages[-1]["content"] == PROMPTS.critique else super()._say(messages)

    graph, values = searched(Mute({}), preference=Ladder("a"), simulations=4)
    assert [graph.thoughts[id]["text"] for id in graph.children(graph.root)] == ["a", "a", "a"]
    assert values["answer"] == "a"


def test_comparisons_that_fail_or_fall_short_leave_the_search_alive() -> None:
    class Broken(Ladder):
        def prefer(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Score]:
            odd = [Score(math.nan), Score(0.0, error="no reply"), Score(7.0)]
            return [odd[number % 3] for number in range(len(pairs))][:3]

    graph, values = searched(Scribe({"a": "bcdef"}), preference=Broken("a"), simulations=6)
    assert values["answer"] in set("abcdef")
    assert all(-1 <= stats["q"] <= 1 for stats in graph.stats.values())
    odd = FakeValue(lambda steps: math.nan)
    graph, values = searched(FakePolicy(chatter), value=odd, simulations=20)
    assert values["answer"].startswith("answer")
    assert all(math.isfinite(stats["q"]) for stats in graph.stats.values())


def test_without_a_preference_the_policy_is_asked_in_both_orders_within_the_budget() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        if "two attempts" in question:
            first = question.index("Attempt 1:\n") + len("Attempt 1:\n")
            return [(f"The best choice is {1 if question[first] == 'b' else 2}", -1.0, True)]
        return [("b", -1.0, True)] if question == PROMPTS.rewrite else [("a", -1.0, True)]

    policy = FakePolicy(script)
    graph, values = searched(policy, simulations=2)
    ids = named(graph)
    assert graph.stats[ids["b"]].get("preferences") == {ids["a"]: 1.0}
    assert values["answer"] == "b"
    # One token less than a comparison in both orders may take: none is begun.
    most = JudgePreference(policy, PROMPTS.require("prefer"), samples=1).most_tokens
    spent = values["usage"]["completion_tokens"] - 2 * 6
    graph, values = searched(FakePolicy(script), simulations=2, budget=Budget(tokens=spent + most - 1))
    assert graph.stats[named(graph)["b"]].get("preferences") == {}


@settings(max_examples=25)
@given(
    tokens=st.none() | st.integers(1, 60),
    calls=st.integers(1, 60),
    nodes=st.none() | st.integers(1, 40),
    seed=st.integers(0, 999),
    valued=st.booleans(),
)
def test_no_budget_is_exceeded(
    tokens: int | None, calls: int, nodes: int | None, seed: int, valued: bool
) -> None:
    policy, value = FakePolicy(wander), FakeValue(guess)
    budget = Budget(tokens=tokens, calls=calls, nodes=nodes)
    preference = (
        None if valued else JudgePreference(policy, PROMPTS.require("prefer"), samples=2, max_tokens=6)
    )
    graph, values = searched(
        policy, value=value if valued else None, preference=preference, budget=budget, seed=seed
    )
    assert len(policy.requests) + len(value.candidates) == values["usage"]["model_calls"] <= calls
    assert nodes is None or len(graph.thoughts) - 1 <= nodes
    assert tokens is None or values["usage"]["completion_tokens"] <= tokens
    assert all(-1 <= stats["q"] <= 1 for stats in graph.stats.values())


def test_a_specialist_that_lacks_a_skill_is_refused_before_anything_is_spent() -> None:
    class Novice(FakePolicy):
        prompts = Prompts.lacking(critique="critique", rewrite="rewrite")

    with pytest.raises(InputError, match="has not learned to critique"):
        create_llama_berry(FakePolicy(wander, task="game24"))
    with pytest.raises(InputError, match="has not learned to prefer"):
        create_llama_berry(Novice(wander, task="game24"))
    create_llama_berry(Novice(wander, task="game24"), value=FakeValue(guess))


@pytest.mark.parametrize(
    "parameters",
    [
        {"starts": 0},
        {"max_children": 0},
        {"comparisons": 0},
        {"patience": 0},
        {"simulations": 0},
        {"c": -0.1},
        {"c": math.nan},
        {"alpha": 1.5},
        {"gamma": math.nan},
        {"value": FakeValue(guess), "preference": Ladder("a")},
        {"tools": ["search"]},
    ],
)
def test_parameters_that_make_no_search_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        create_llama_berry(FakePolicy(wander), **parameters)
