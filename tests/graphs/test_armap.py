"""ARMAP: what each planner makes of rewards, what reflections do, and what must not stop it."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, Completion, FakePolicy, FakeValue, Request, Steps, ThoughtGraph, create_mcts
from rlm_agent.graphs.armap import create_armap
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Candidate, Message, Score
from rlm_agent.models.rewards import OutcomeValue
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.generate import generate
from rlm_agent.operators.refine import critique, recalling
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError, UnknownNameError
from tests.graphs.scripts import STEPS, accepts, ask, found, grown, guess, thread, wander, whole_path
from tests.structure.trees import plant

PROMPTS = Prompts()
PLENTY = Budget(calls=10_000)
REWARDS = {"a1": 0.3, "b2": 0.6, "c3": 0.2}


class Learner(FakePolicy):
    """Attempts of two steps: "a1" at first, "b2" with one reflection in mind, "c3" with more."""

    def __init__(self, *, silent: bool = False, task: str | None = None) -> None:
        super().__init__(lambda question, prefix: [], task=task)
        self.silent = silent
        self.reflections = 0

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.requests += requests
        return [self._write(request) for request in requests]

    def _write(self, request: Request) -> Completion:
        asked = request.messages[-1]["content"]
        if asked == PROMPTS.reflect:
            self.reflections += 1
            text = "" if self.silent else f"lesson {self.reflections}"
            return Completion(text, 2, -1.0, "end")
        attempt = "abc"[min(asked.count("lesson"), 2)]
        if not request.prefix:
            return Completion(attempt, 2, -1.0, "stop")
        return Completion(str("abc".index(attempt) + 1), 2, -1.0, "end")


def reward(steps: Sequence[str]) -> float:
    return REWARDS["".join(steps)]


def searched(policy: FakePolicy, **keywords: Any) -> tuple[ThoughtGraph, dict[str, Any]]:
    """The tree after one question, and the values of the final state."""
    common: dict[str, Any] = {"steps": Steps(answer=whole_path), "budget": PLENTY, "seed": 5}
    reasoner = create_armap(policy, **{**common, **keywords}, checkpointer=InMemorySaver())
    reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    return grown(values), values


def test_reflexion_tries_again_with_what_it_learned_until_the_reward_is_enough() -> None:
    """a1 .3 is below .5: lesson 1; b2 .6 is not."""
    policy = Learner()
    graph, values = searched(policy, planner="reflexion", value=FakeValue(reward))
    first, second = graph.children(graph.root)
    ends = [graph.children(id)[0] for id in (first, second)]
    assert ["".join(graph.steps(id)) for id in ends] == ["a1", "b2"]
    assert [graph.stats[id].get("feedback") for id in ends] == ["lesson 1", None]
    assert [graph.stats[id]["value"] for id in ends] == [0.3, 0.6]
    assert (values["answer"], values["run"]["stopped"]) == ("b2", "exhausted")
    asked = [request.messages[-1]["content"] for request in policy.requests]
    retry = "where to?\n\nThese were your thoughts on earlier attempts:\n\nlesson 1"
    assert asked == ["where to?", "where to?", PROMPTS.reflect, retry, retry]
    assert policy.requests[2].messages[-2] == {"role": "assistant", "content": "a\n1"}


@pytest.mark.parametrize(
    ("n", "threshold", "answer", "attempts"),
    [(10, 0.3, "a1", 1), (10, 0.6, "b2", 2), (3, 0.9, "b2", 3), (1, 0.9, "a1", 1), (5, 1.0, "b2", 5)],
)
def test_the_best_attempt_answers_where_none_is_good_enough(
    n: int, threshold: float, answer: str, attempts: int
) -> None:
    graph, values = searched(
        Learner(), planner="reflexion", n=n, threshold=threshold, value=FakeValue(reward)
    )
    assert (values["answer"], len(graph.children(graph.root))) == (answer, attempts)


def test_a_verifier_takes_the_place_of_the_reward() -> None:
    value = FakeValue(reward)
    graph, values = searched(Learner(), planner="reflexion", value=value, verifier=accepts("c3"), n=5)
    assert (values["answer"], values["run"]["stopped"]) == ("c3", "verified")
    assert len(graph.children(graph.root)) == 3
    assert value.candidates == []
    _, values = searched(Learner(), planner="reflexion", verifier=accepts("b2"))
    assert values["answer"] == "b2"


def test_an_attempt_without_a_reflection_goes_on_with_those_there_are() -> None:
    policy = Learner(silent=True)
    graph, values = searched(policy, planner="reflexion", n=3, value=FakeValue(reward))
    assert ["".join(graph.steps(id)) for id in graph.finals()] == ["a1", "a1", "a1"]
    assert (values["answer"], policy.reflections) == ("a1", 2)


class Plain:
    """Reflexion as its paper has it: act, evaluate, reflect, remember."""

    def __init__(self, policy: FakePolicy, seed: int) -> None:
        message = Message(role="user", content="where to?")
        self.setting = Setting(policy, (message,), seed, STEPS, value=OutcomeValue(FakeValue(guess)))
        self.graph = plant("where to?")
        self.ends: list[str] = []

    def attempt(self) -> float:
        """One trajectory, and its reward."""
        id, mindful = self.graph.root, recalling(self.graph, self.ends[-3:], self.setting)
        while id == self.graph.root or self.graph.thoughts[id]["kind"] == "step":
            written = drive(generate(self.graph, [(id, 1)], mindful, Allowance()))
            self.graph = self.graph.updated(written.writes)
            (id,) = written.outputs
            judged = drive(evaluate(self.graph, [id], self.setting, Allowance()))
            self.graph = self.graph.updated(judged.writes)
        self.ends.append(id)
        return self.graph.stats[id]["value"] or 0.0

    def reflect(self) -> None:
        said = drive(critique(self.graph, self.ends[-1:], self.setting, Allowance(), "reflect"))
        self.graph = self.graph.updated(said.writes)


@pytest.mark.parametrize("seed", [3, 11, 23])
def test_a_plain_loop_makes_the_same_attempts(seed: int) -> None:
    policy, n = FakePolicy(wander), 8
    parameters: dict[str, Any] = {"n": n, "threshold": 0.9, "steps": STEPS, "temperature": 1.0}
    graph, _ = searched(policy, planner="reflexion", value=FakeValue(guess), seed=seed, **parameters)
    plain = Plain(policy, seed)
    for number in range(n):
        if number:
            plain.reflect()
        if plain.attempt() >= 0.9:
            break
    assert plain.graph.thoughts == graph.thoughts
    assert plain.graph.stats == graph.stats
    assert any("feedback" in stats for stats in graph.stats.values())


def test_best_of_n_takes_the_trajectory_of_the_highest_reward() -> None:
    def chains(question: str, prefix: str) -> list[Reply]:
        return [(text, -1.0, bool(prefix)) for text in ("123" if prefix else "abc")]

    value = FakeValue(lambda steps: REWARDS.get("".join(steps), 0.1))
    graph, values = searched(FakePolicy(chains, cycle=True), n=3, value=value)
    assert values["answer"] == max(
        ("".join(graph.steps(id)) for id in graph.finals()), key=lambda text: REWARDS.get(text, 0.1)
    )
    assert len(graph.finals()) == 3
    assert all(candidate.final for candidate in value.candidates)
    assert values["usage"]["model_calls"] == 6 + 3


def test_mcts_is_that_of_create_mcts_with_the_reward_at_the_ends() -> None:
    def run(create: Any, value: Any, **parameters: Any) -> tuple[Any, ...]:
        reasoner = create(
            FakePolicy(wander), value=value, steps=STEPS, seed=7, checkpointer=InMemorySaver(), **parameters
        )
        reasoner.invoke(ask(), thread())
        return found(reasoner.get_state(thread()).values)

    value = FakeValue(guess)
    planned = run(create_armap, value, planner="mcts", n=9)
    assert planned == run(create_mcts, OutcomeValue(FakeValue(guess)), simulations=9, formula="uct")
    assert value.candidates and all(candidate.final for candidate in value.candidates)


class Short(FakeValue):
    """A reward model that sends a score too few."""

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        return super().score(candidates)[:-1]


async def test_an_outcome_value_keeps_scores_in_place_and_costs_nothing_for_what_is_unfinished() -> None:
    chains = [Candidate((), (text,), final) for text, final in (("a", False), ("b", True), ("c", True))]
    value = OutcomeValue(FakeValue(lambda steps: {"b": 0.2, "c": 0.7}[steps[0]]))
    scores = value.score(chains)
    assert [score.value for score in scores] == [0.0, 0.2, 0.7]
    assert [(score.error is None, score.calls) for score in scores] == [(False, 0), (True, 1), (True, 1)]
    assert await value.ascore(chains) == scores
    assert value.score(chains[:1])[0].error and value.score([]) == []
    assert (value.most_calls, value.most_tokens) == (1, 0)
    assert [score.value for score in OutcomeValue(Short(lambda steps: 0.5)).score(chains)] == [0.0, 0.5]


@pytest.mark.parametrize("planner", ["best_of_n", "reflexion", "mcts"])
@pytest.mark.parametrize("value", [FakeValue(lambda steps: math.nan), Short(guess)], ids=["nan", "short"])
def test_rewards_that_are_no_numbers_or_missing_harm_nobody(planner: Any, value: FakeValue) -> None:
    policy = FakePolicy(wander, fails={1: "connection reset"})
    _, values = searched(policy, planner=planner, value=value, steps=STEPS, temperature=1.0, n=12)
    assert values["answer"].startswith("answer")


def test_a_specialist_that_cannot_reflect_is_refused_and_may_plan_otherwise() -> None:
    policy = FakePolicy(wander, task="game24")
    with pytest.raises(InputError, match="has not learned to reflect"):
        create_armap(policy, planner="reflexion", value=FakeValue(guess))
    create_armap(policy, planner="mcts")


@pytest.mark.parametrize(
    ("parameters", "remedy"),
    [
        ({"value": None}, "give the reward model as a value, or a verifier"),
        ({"n": 0}, "give at least 1"),
        ({"threshold": 0.5}, "leave it out"),
        ({"planner": "mcts", "threshold": 0.5}, "leave it out"),
        ({"planner": "reflexion", "threshold": 1.5}, "give a number in"),
        ({"planner": "reflexion", "threshold": math.nan}, "give a number in"),
    ],
)
def test_parameters_that_make_no_plan_are_refused(parameters: dict[str, Any], remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        create_armap(FakePolicy(wander), **{"value": FakeValue(guess), **parameters})


def test_an_unknown_planner_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="choose one of best_of_n, reflexion, mcts"):
        create_armap(FakePolicy(wander), planner="guess", value=FakeValue(guess))  # type: ignore[arg-type]
