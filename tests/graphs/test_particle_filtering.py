"""Particle filtering: draws and a tree derived by hand, the same tree from a plain loop, ends and faults."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, FakePolicy, FakeValue, Steps, ThoughtGraph
from rlm_agent.graphs.particle_filtering import create_particle_filtering
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Candidate, Message, Score
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.generate import generate
from rlm_agent.operators.rules.resample import draw_points, logit, moved, population, resample, settle
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from tests.graphs.scripts import (
    FOUND,
    STEPS,
    Mortal,
    accepts,
    ask,
    found,
    grown,
    guess,
    thread,
    wander,
    whole_path,
)
from tests.structure.trees import graft, marked, plant

PLENTY = Budget(calls=1000)
NOTHING = -math.inf
point = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("probability", "expected"),
    [(0.5, 0.0), (0.9, 2.19722), (1.0, 16.1181), (0.0, -16.1181), (math.nan, -16.1181)],
)
def test_the_weight_of_a_value_is_its_clipped_logit(probability: float, expected: float) -> None:
    assert logit(probability) == pytest.approx(expected, abs=1e-4)


def test_the_shares_of_two_values_are_their_softmax() -> None:
    """logit .5 = 0 and logit .9 = ln 9: shares .1 and .9, so that the border lies at .1."""
    weights = {"a": logit(0.5), "b": logit(0.9)}
    points = [0.0, 0.05, 0.0999, 0.1001, 0.5, 0.9999]
    assert resample({"a": 1, "b": 1}, weights, points) == {"a": 3, "b": 3}
    assert resample({"a": 9, "b": 1}, weights, [0.49, 0.51]) == {"a": 1, "b": 1}, "9 · 1 against 1 · 9"


def test_the_temperature_levels_the_shares() -> None:
    """With T = 2 the odds of ln 9 to 0 become 9^(1/2) = 3 to 1: the border lies at 1/4."""
    weights = {"a": 0.0, "b": math.log(9)}
    assert resample({"a": 1, "b": 1}, weights, [0.249, 0.251], temperature=2.0) == {"a": 1, "b": 1}
    assert resample({"a": 1, "b": 1}, weights, [0.0, 0.5], temperature=1e-310) == {"b": 2}


counts_and_weights = st.dictionaries(
    st.text(max_size=3),
    st.tuples(st.integers(1, 5), st.just(NOTHING) | st.floats(-17, 17)),
    max_size=8,
)


@given(counts_and_weights, st.lists(point, max_size=20), st.floats(1e-6, 1e6))
def test_as_many_live_on_as_are_drawn_and_none_of_no_weight(
    particles: dict[str, tuple[int, float]], points: list[float], temperature: float
) -> None:
    counts = {id: count for id, (count, _) in particles.items()}
    weights = {id: weight for id, (_, weight) in particles.items()}
    drawn = resample(counts, weights, points, temperature)
    weighty = {id for id in counts if weights[id] > NOTHING}
    assert set(drawn) <= weighty
    assert drawn.total() == (len(points) if weighty else 0)


@given(counts_and_weights, point, st.floats(-1000, 1000))
def test_a_constant_added_to_all_log_weights_changes_nothing(
    particles: dict[str, tuple[int, float]], at: float, constant: float
) -> None:
    """But for a border that falls between two floats."""
    counts = {id: count for id, (count, _) in particles.items()}
    weights = {id: round(weight) if weight > NOTHING else weight for id, (_, weight) in particles.items()}
    shifted = {id: weight + round(constant) for id, weight in weights.items()}
    assert resample(counts, weights, [at]) == resample(counts, shifted, [at])


@given(
    st.lists(st.tuples(st.integers(1, 4), st.floats(0.02, 0.98)), min_size=1, max_size=6), st.integers(0, 99)
)
@settings(max_examples=40, deadline=None)
def test_a_share_is_what_it_should_be_on_average(particles: list[tuple[int, float]], seed: int) -> None:
    """Of 4,000 draws, each thought gets its share of odds · particles within five standard deviations."""
    counts = {str(number): count for number, (count, _) in enumerate(particles)}
    odds = {str(number): count * p / (1 - p) for number, (count, p) in enumerate(particles)}
    weights = {str(number): logit(p) for number, (_, p) in enumerate(particles)}
    drawn = resample(counts, weights, draw_points(4000, seed, "test"))
    for id in counts:
        share = odds[id] / math.fsum(odds.values())
        assert abs(drawn[id] - 4000 * share) <= 5 * math.sqrt(4000 * share * (1 - share)) + 1


def test_points_are_in_the_unit_interval_and_depend_on_seed_and_counter_alone() -> None:
    points = draw_points(1000, 7, "root", "resample", 3)
    assert all(0 <= at < 1 for at in points) and len(set(points)) == 1000
    assert sum(points) / 1000 == pytest.approx(0.5, abs=0.05)
    assert points == draw_points(1000, 7, "root", "resample", 3)
    assert points[:10] == draw_points(10, 7, "root", "resample", 3)
    assert (
        points != draw_points(1000, 7, "root", "resample", 4) != draw_points(1000, 8, "root", "resample", 4)
    )
    assert draw_points(-2, 7, "x") == draw_points(0, 7, "x") == []


def test_particles_move_to_new_thoughts_and_those_left_over_stay() -> None:
    graph = plant()
    graph, a = graft(graph, graph.root, "a")
    graph, b = graft(graph, graph.root, "b", "final")
    graph, first = graft(graph, a, "aa")
    graph, second = graft(graph, a, "ab")
    graph = marked(graph, graph.root, population={a: 3, b: 2})
    assert population(graph) == {a: 3, b: 2}
    assert moved(graph, [first, second]) == {a: 1, b: 2, first: 1, second: 1}
    assert moved(plant(), []) == {}
    graph = graph.updated(settle(graph, {second: 5}, [a, b, first, second]))
    assert population(graph) == {second: 5}
    assert [graph.stats[id]["closed"] for id in (a, b, first, second)] == [False, True, True, False]


def test_the_first_steps_leave_no_debt_at_the_root() -> None:
    graph = plant()
    graph, a = graft(graph, graph.root, "a")
    assert moved(graph, [a]) == {a: 1}


def values_of(policy: FakePolicy, **keywords: Any) -> dict[str, Any]:
    """The final state's values of one search."""
    common = {
        "value": FakeValue(guess),
        "steps": STEPS,
        "seed": 7,
        "budget": PLENTY,
        "checkpointer": InMemorySaver(),
        **keywords,
    }
    reasoner = create_particle_filtering(policy, **common)
    reasoner.invoke(ask(), thread())
    values: dict[str, Any] = reasoner.get_state(thread()).values
    return values


def give_points(monkeypatch: pytest.MonkeyPatch, *points: float) -> None:
    """Let every round resample by these points."""

    def given_points(count: int, *ignored: Any) -> list[float]:
        return list(points)[:count]

    monkeypatch.setattr("rlm_agent.graphs.particle_filtering.draw_points", given_points)


def by_path(graph: ThoughtGraph, field: str) -> dict[str, Any]:
    """One statistic of each thought by its chain's text and its index among its siblings."""
    return {
        "".join(graph.steps(id)) + f"#{graph.thoughts[id]['index']}": graph.stats[id].get(field)
        for id in graph.walk()
        if id != graph.root
    }


def test_a_population_of_four_moves_as_derived_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy writes a, b, c in turn; "c" under the root fails, and chains end at the second step. The
    points are not drawn but given: .05, .3, .55, .95 in both rounds. Odds p / (1 − p) are the weights.

    Round 1, under the root: a ← .5 (odds 1), b ← .75 (odds 3), c failed (0), a′ ← .5 (odds 1); sum 5.
      Borders at .2, .8, .8, 1: a gets .05; b gets .3 and .55; a′ gets .95. c is closed.
    Round 2, in the order of the tree: aa ← .5 (1); under b: ba ← .9 (9), bb ← .6 (1.5); under a′, where the
      policy's turn is at b: ab ← .8 (4); sum 15.5. The population stands in the order of its births: borders
      at .0645, .645, .742, 1: aa gets .05; ba gets .3 and .55; ab gets .95; bb dies. All have
      finished, and ba is worth most.
    """
    worth = {"a": 0.5, "b": 0.75, "aa": 0.5, "ab": 0.8, "ba": 0.9, "bb": 0.6}

    def script(question: str, prefix: str) -> list[Reply]:
        last = bool(prefix)
        return [("a", -1.0, last), ("b", -1.0, last), ("c" if last else "", -1.0, last)]

    give_points(monkeypatch, 0.05, 0.3, 0.55, 0.95)
    values = values_of(
        FakePolicy(script, cycle=True),
        particles=4,
        value=FakeValue(lambda steps: worth["".join(steps)]),
        steps=Steps(answer=whole_path),
    )
    graph = grown(values)
    standing = {"".join(graph.steps(id)): count for id, count in population(graph).items()}
    assert standing == {"aa": 1, "ba": 2, "ab": 1}
    assert by_path(graph, "closed") == {
        "a#0": False, "b#1": False, "#2": True, "a#3": False,
        "aa#0": True, "ba#0": True, "bb#1": True, "ab#0": True,
    }  # fmt: skip
    assert (values["answer"], values["run"]["stopped"]) == ("ba", "exhausted")
    assert values["usage"]["nodes"] == 8


def fork(question: str, prefix: str) -> list[Reply]:
    """A chain that ends at once and one that goes on for two more steps."""
    if not prefix:
        return [("end", -1.0, True), ("on", -1.0)]
    return [("last", -1.0, True)] if prefix.count("\n") == 2 else [("on", -1.0)]


def fork_worth(steps: Sequence[str]) -> float:
    """The early end is worth .1, going on .9."""
    return 0.1 if steps[0] == "end" else 0.9


def test_finished_particles_can_die_unless_they_are_kept() -> None:
    """Odds of 1/9 against 9: of four ends and four others, an end is drawn once in 82 draws."""
    search: dict[str, Any] = {"particles": 8, "value": FakeValue(fork_worth), "steps": Steps(max_tokens=4)}
    died = grown(values_of(FakePolicy(fork, cycle=True), **search))
    kept = grown(values_of(FakePolicy(fork, cycle=True), resample_finished=False, **search))

    def at_early_ends(graph: ThoughtGraph) -> int:
        return sum(count for id, count in population(graph).items() if graph.thoughts[id]["depth"] == 1)

    assert at_early_ends(died) == 0
    assert at_early_ends(kept) == 4
    assert population(died).total() == population(kept).total() == 8


def test_the_answer_is_the_best_of_the_living(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end of .6 (odds 1.5) and a step of .5 (odds 1): the border lies at .6, and the end dies."""
    give_points(monkeypatch, 0.7, 0.8)
    values = values_of(
        FakePolicy(fork, cycle=True),
        particles=2,
        value=FakeValue(lambda steps: 0.6 if steps[0] == "end" else 0.5),
        steps=Steps(max_tokens=4),
    )
    assert max(stats["value"] or 0 for stats in values["stats"].values()) == 0.6
    assert values["answer"] == "last"


@pytest.mark.parametrize(("temperature", "answer"), [(1.0, "end"), (2.0, "last")])
def test_the_resampling_temperature_levels_the_weights(
    temperature: float, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end of .9 and a step of .5: odds of 9 to 1, or, at temperature 2, of 3 to 1. At .8 lies the end's
    share in the first case and the step's in the second."""
    give_points(monkeypatch, 0.8, 0.8)
    values = values_of(
        FakePolicy(fork, cycle=True),
        particles=2,
        value=FakeValue(lambda steps: 0.9 if steps[0] == "end" else 0.5),
        resampling_temperature=temperature,
        steps=Steps(max_tokens=4),
    )
    assert values["answer"] == answer


def test_where_no_finished_particle_lives_the_best_of_those_that_died_has_the_answer() -> None:
    """The early end is worth 0, going on is worth 1, and all that go on fail."""

    def script(question: str, prefix: str) -> list[Reply]:
        return [("end", -1.0, True), ("on", -1.0)] if not prefix else [("", -1.0)]

    values = values_of(
        FakePolicy(script, cycle=True),
        particles=4,
        value=FakeValue(lambda steps: float(steps[0] == "on")),
        steps=Steps(max_tokens=4),
    )
    assert population(grown(values)).total() == 0
    assert (values["answer"], values["run"]["stopped"]) == ("end", "exhausted")


def test_a_rejected_answer_has_no_weight_and_an_accepted_one_ends_the_search() -> None:
    """All that end at once are wrong, though the value of everything else is 0."""
    values = values_of(
        FakePolicy(fork, cycle=True),
        particles=4,
        value=FakeValue(lambda steps: 0.0),
        verifier=accepts("last"),
        steps=Steps(max_tokens=4),
    )
    graph = grown(values)
    ends = [id for id in graph.walk() if graph.thoughts[id]["text"] == "end"]
    assert len(ends) == 2 and not set(ends) & set(population(graph))
    assert (values["answer"], values["run"]["stopped"]) == ("last", "verified")


def test_a_population_that_died_begins_anew_until_the_budget_is_spent() -> None:
    def dead_end(question: str, prefix: str) -> list[Reply]:
        return [("x", -1.0)]

    policy = FakePolicy(dead_end)
    values = values_of(policy, particles=4, steps=Steps(max_steps=2), budget=Budget(nodes=20))
    assert values["answer"] is None
    assert len(policy.requests) == 20
    # 4 first steps and 4 second ones, twice; then 4 first steps.
    assert grown(values).stats[values["run"]["root"]]["children"] == 12


def test_a_verifier_that_rejects_all_answers_lets_the_population_begin_anew() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return [("x", -1.0, True)]

    assert values_of(FakePolicy(script), particles=4)["usage"]["nodes"] == 4
    values = values_of(FakePolicy(script), particles=4, verifier=accepts("y"), budget=Budget(nodes=18))
    assert (values["usage"]["nodes"], values["answer"], values["run"]["verified"]) == (18, "x", False)


@pytest.mark.parametrize(
    "parameters",
    [
        {"particles": 0},
        {"particles": -1},
        {"resampling_temperature": 0.0},
        {"resampling_temperature": -1.0},
        {"resampling_temperature": math.inf},
        {"resampling_temperature": math.nan},
        {"value": None},
        {"temperature": -1.0},
    ],
)
def test_parameters_that_make_no_population_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        create_particle_filtering(
            FakePolicy(wander), **{"value": FakeValue(guess), "steps": STEPS, **parameters}
        )


def test_without_a_value_model_the_remedy_is_named() -> None:
    with pytest.raises(InputError, match="value='head'"):
        create_particle_filtering(FakePolicy(wander), steps=STEPS)


def plain_loop(particles: int, seed: int, resample_finished: bool) -> ThoughtGraph:
    """The algorithm as its paper tells it, over the operators: no state machine, no rules."""
    message = Message(role="user", content="where to?")
    setting = Setting(FakePolicy(wander), (message,), seed, STEPS, value=FakeValue(guess))
    graph, number = plant("where to?"), 0

    def finished(id: str) -> bool:
        return graph.thoughts[id]["kind"] == "final"

    def weight(id: str) -> float:
        return NOTHING if graph.thoughts[id]["kind"] == "failed" else logit(graph.stats[id]["value"] or 0.0)

    standing: list[str] = []
    while not graph.finals() or not all(map(finished, standing)):
        number += 1
        walk = list(graph.walk())
        unfinished = Counter(id for id in sorted(standing, key=walk.index) if not finished(id))
        plan = list(unfinished.items()) or [(graph.root, particles)]
        generated = drive(generate(graph, plan, setting, Allowance()))
        graph = graph.updated(generated.writes)
        graph = graph.updated(drive(evaluate(graph, generated.outputs, setting, Allowance())).writes)
        ends = sorted((id for id in standing if finished(id)), key=list(graph.walk()).index)
        now = Counter([*ends, *generated.outputs])
        kept = [id for id in now.elements() if finished(id) and not resample_finished]
        drawn_from = Counter(id for id in now.elements() if id not in kept)
        points = draw_points(particles - len(kept), seed, graph.root, "resample", number)
        drawn = resample(drawn_from, {id: weight(id) for id in now}, points)
        graph = graph.updated(settle(graph, Counter(kept) + drawn, [*standing, *now]))
        standing = [*kept, *drawn.elements()]
    return graph


@pytest.mark.parametrize("resample_finished", [True, False])
@pytest.mark.parametrize("particles", [1, 2, 5, 8])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_plain_loop_over_the_operators_grows_the_same_tree(
    particles: int, seed: int, resample_finished: bool
) -> None:
    values = values_of(
        FakePolicy(wander), particles=particles, seed=seed, resample_finished=resample_finished
    )
    graph = plain_loop(particles, seed, resample_finished)
    assert graph.thoughts == values["thoughts"]
    assert graph.stats == values["stats"]
    assert values["run"]["stopped"] == "exhausted"


@pytest.mark.parametrize("resample_finished", [True, False])
def test_after_every_round_the_population_is_whole_or_dead(resample_finished: bool) -> None:
    reasoner = create_particle_filtering(
        FakePolicy(wander),
        particles=6,
        resample_finished=resample_finished,
        value=FakeValue(guess),
        verifier=accepts("none"),
        steps=STEPS,
        seed=3,
        budget=Budget(calls=150),
        checkpointer=InMemorySaver(),
    )
    reasoner.invoke(ask(), thread())
    states = [state for state in reasoner.get_state_history(thread()) if state.next == ("select",)]
    totals = set()
    for state in states:
        graph = grown(state.values)
        standing = population(graph)
        totals.add(standing.total())
        leaves = [id for id in graph.walk() if id != graph.root and not graph.stats[id]["children"]]
        assert all(graph.stats[id]["closed"] for id in leaves if not standing[id])
        assert all(not graph.stats[id]["closed"] for id in standing if graph.thoughts[id]["kind"] == "step")
    assert totals == {0, 6}


SEARCH: dict[str, Any] = {
    "particles": 5,
    "value": FakeValue(guess),
    "verifier": accepts("none"),
    "steps": STEPS,
    "seed": 7,
    "budget": Budget(calls=90),
}


def unbroken() -> tuple[Any, ...]:
    reasoner = create_particle_filtering(FakePolicy(wander), **SEARCH)
    return found(reasoner.invoke(ask(), output_keys=FOUND))


@pytest.mark.parametrize("batches", [0, 1, 3, 5])
def test_a_search_that_broke_off_is_taken_up_and_grows_the_same_tree(batches: int) -> None:
    saver = InMemorySaver()
    with pytest.raises(ConnectionError):
        create_particle_filtering(Mortal(batches), **SEARCH, checkpointer=saver).invoke(ask(), thread())
    reasoner = create_particle_filtering(FakePolicy(wander), **SEARCH, checkpointer=saver)
    reasoner.invoke(None, thread())
    assert found(reasoner.get_state(thread()).values) == unbroken()


def test_a_fork_of_any_moment_ends_in_the_same_tree() -> None:
    reasoner = create_particle_filtering(FakePolicy(wander), **SEARCH, checkpointer=InMemorySaver())
    reasoner.invoke(ask(), thread())
    moments = [state for state in reasoner.get_state_history(thread()) if state.next]
    for moment in moments[:-1:5]:
        reasoner.invoke(None, moment.config)
        assert found(reasoner.get_state(thread()).values) == unbroken()


async def test_an_async_run_grows_the_same_tree() -> None:
    reasoner = create_particle_filtering(FakePolicy(wander), **SEARCH)
    assert found(await reasoner.ainvoke(ask(), output_keys=FOUND)) == unbroken()


def test_another_seed_draws_otherwise() -> None:
    drawn = {tuple(sorted(population(grown(values_of(FakePolicy(wander), seed=seed))))) for seed in range(5)}
    assert len(drawn) == 5


class Doubtful(FakeValue):
    """A value model that gives no number, or fails, for all but every third candidate."""

    def __init__(self, bad: Score) -> None:
        super().__init__(guess)
        self._bad = bad

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        return [self._bad if index % 3 else score for index, score in enumerate(super().score(candidates))]


@pytest.mark.parametrize("bad", [Score(math.nan), Score(0.0, error="out of memory"), Score(math.inf)])
def test_a_value_that_gives_no_number_ends_no_search(bad: Score) -> None:
    values = values_of(FakePolicy(wander), value=Doubtful(bad))
    assert values["answer"] is not None
    assert all(0 <= (stats["value"] or 0) <= 1 for stats in values["stats"].values())


def test_a_step_that_fails_dies_and_another_takes_its_place() -> None:
    policy = FakePolicy(wander, fails={1: "connection reset", 3: "connection reset"})
    values = values_of(policy, particles=4, seed=1, budget=Budget(nodes=4))
    graph = grown(values)
    reset = [id for id in graph.walk() if graph.thoughts[id].get("reason") == "connection reset"]
    assert len(reset) == 2 and not set(reset) & set(population(graph))
    assert population(graph).total() == 4


def test_particles_that_the_budget_kept_from_moving_stay_where_they_are() -> None:
    """Of eight that stand after the first round, calls are left for three moves and their values."""
    policy = FakePolicy(lambda question, prefix: [("on", -1.0)])
    reasoner = create_particle_filtering(
        policy,
        particles=8,
        value=FakeValue(lambda steps: 0.5),
        steps=STEPS,
        seed=1,
        budget=Budget(calls=100, nodes=11),
        checkpointer=InMemorySaver(),
    )
    reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    graph = grown(values)
    depths = Counter(graph.thoughts[id]["depth"] for id in population(graph).elements())
    assert len(graph.thoughts) == 12
    assert depths.total() == 8 and depths[1] > 0 and depths[2] > 0


bounds = st.none() | st.integers(1, 50)


@settings(max_examples=60, deadline=None)
@given(
    tokens=bounds,
    calls=bounds,
    nodes=bounds,
    seed=st.integers(0, 999),
    particles=st.integers(1, 9),
    resample_finished=st.booleans(),
)
def test_no_budget_is_exceeded(
    tokens: int | None,
    calls: int | None,
    nodes: int | None,
    seed: int,
    particles: int,
    resample_finished: bool,
) -> None:
    if tokens is calls is nodes is None:
        calls = 40
    policy, value = FakePolicy(wander), FakeValue(guess)
    reasoner = create_particle_filtering(
        policy,
        particles=particles,
        resample_finished=resample_finished,
        value=value,
        verifier=accepts("none"),
        steps=STEPS,
        seed=seed,
        budget=Budget(tokens=tokens, calls=calls, nodes=nodes),
    )
    usage = reasoner.invoke(ask())["usage"]
    assert tokens is None or usage["completion_tokens"] <= tokens
    assert nodes is None or len(policy.requests) <= nodes
    assert calls is None or len(policy.requests) + len(value.candidates) <= calls
    assert usage["model_calls"] == len(policy.requests) + len(value.candidates)
