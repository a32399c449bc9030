"""Evaluate: what thoughts are worth, by verifier and value model (blueprint §1, evaluate operators)."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from rlm_agent.models.drive import Asking, ask_preference, ask_value
from rlm_agent.models.protocols import Candidate, Preference, Score, Value
from rlm_agent.models.values import most_of
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Allowance, Usage, no_usage
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes

_AGGREGATIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "prod": math.prod,
    "last": lambda scores: scores[-1],
    "mean": lambda scores: math.fsum(scores) / len(scores),
}


def evaluate(
    graph: ThoughtGraph, ids: Sequence[str], setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """Give each of `ids` its value in [0, 1]; `outputs` are those that got one.

    A failed thought is worth 0. A final one is worth 1 or 0 where there is a verifier, which sees the
    question and the answer only. What is left goes to the value model in one batch, as far as the calls
    and the seconds allow, and the tokens where it writes; without a value model it keeps None.
    """
    values = {id: value for id in ids if (value := _judged(graph, id, setting)) is not None}
    usage = no_usage()
    if setting.value is not None:
        asked = [id for id in ids if id not in values and graph.stats[id]["value"] is None]
        asked = asked[: _affordable(setting.value, allowance, len(asked))]
        candidates = [candidate(graph, id, setting) for id in asked]
        scores = yield from ask_value(setting.value, candidates)
        usage = _cost(scores[: len(asked)])
        for id, score in zip(asked, scores, strict=False):  # a value model may fall short
            if score.error is None and not math.isnan(score.value):
                values[id] = min(1.0, max(0.0, score.value))
    stats = {id: Stats({**graph.stats[id], "value": value}) for id, value in values.items()}
    return Outcome(Writes({}, stats), list(values), usage).logged("evaluate", ids)


def verify(
    graph: ThoughtGraph, ids: Sequence[str], setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """`evaluate` without the value model, for a strategy that does without it or asks it at another time."""
    return evaluate(graph, ids, replace(setting, value=None), allowance)


def compare(
    graph: ThoughtGraph,
    pairs: Sequence[tuple[str, str]],
    setting: Setting,
    allowance: Allowance,
) -> Asking[Outcome]:
    """Ask the preference model which thought of each pair is better, as far as the allowance covers it.

    The first of each keeps the probability that it is the better one, by the second, in `Stats.preferences`;
    `outputs` are the thoughts that were compared. A pair whose comparison failed is left as it was. Raises
    `InputError` without a preference model.
    """
    if setting.preference is None:
        raise InputError("nobody is there to compare thoughts; give the strategy a preference model")
    asked = pairs[: _affordable(setting.preference, allowance, len(pairs))]
    chains = {id: candidate(graph, id, setting) for id in dict.fromkeys(chain.from_iterable(asked))}
    scores = yield from ask_preference(setting.preference, [(chains[a], chains[b]) for a, b in asked])
    said = {
        pair: min(1.0, max(0.0, score.value))
        for pair, score in zip(asked, scores, strict=False)  # a model may fall short
        if score.error is None and not math.isnan(score.value)
    }
    preferences = defaultdict[str, dict[str, float]](dict)
    for (first, second), better in said.items():
        preferences[first][second] = better
    stats = {id: _knowing(graph.stats[id], new) for id, new in preferences.items()}
    inputs, outputs = (list(dict.fromkeys(chain.from_iterable(some))) for some in (pairs, said))
    return Outcome(Writes({}, stats), outputs, _cost(scores[: len(asked)])).logged("compare", inputs)


def _knowing(stats: Stats, preferences: dict[str, float]) -> Stats:
    return {**stats, "preferences": {**stats.get("preferences", {}), **preferences}}


def _cost(scores: Sequence[Score]) -> Usage:
    return Usage(
        {
            **no_usage(),
            "prompt_tokens": sum(score.prompt_tokens for score in scores),
            "completion_tokens": sum(score.tokens for score in scores),
            "model_calls": sum(score.calls for score in scores),
        }
    )


def _affordable(value: Value | Preference, allowance: Allowance, wanted: int) -> int:
    """How many scores can be afforded whatever they will cost."""
    if allowance.seconds <= 0:
        return 0
    calls, tokens = most_of(value)
    return int(min(wanted, _times(tokens, allowance.tokens), _times(calls, allowance.calls)))


def _times(most: int, left: float) -> float:
    """How often `most` goes into what is left."""
    return left // most if most and left < math.inf else math.inf


def aggregate_scores(scores: Sequence[float], how: str) -> float:
    """One score of a chain from those of its steps: `min`, `prod`, `last` or `mean`.

    Raises `InputError` for no scores and `UnknownNameError` for another name.
    """
    aggregate = _aggregation(how)
    if not scores:
        raise InputError("no step has a score; give the strategy a value model")
    return aggregate(scores)


def chain_value(how: str) -> Callable[[ThoughtGraph, str], float]:
    """The score of a chain that ends in a thought, from the values of its steps; 0 where none has one.

    Raises `UnknownNameError` at once for another name than those of `aggregate_scores`.
    """
    aggregate = _aggregation(how)

    def score(graph: ThoughtGraph, id: str) -> float:
        values = [graph.stats[step]["value"] for step in graph.chain(id)]
        known = [value for value in values if value is not None]
        return aggregate(known) if known else 0.0

    return score


def _aggregation(how: str) -> Callable[[Sequence[float]], float]:
    if how not in _AGGREGATIONS:
        raise UnknownNameError(f"{how!r} is no aggregation; choose one of {', '.join(_AGGREGATIONS)}")
    return _AGGREGATIONS[how]


def _judged(graph: ThoughtGraph, id: str, setting: Setting) -> float | None:
    thought = graph.thoughts[id]
    if thought["kind"] == "failed":
        return 0.0
    if thought["kind"] == "final" and setting.verifier is not None:
        return float(setting.verifier(graph.question, thought["answer"]).correct)
    return None


def candidate(graph: ThoughtGraph, id: str, setting: Setting) -> Candidate:
    """The chain that leads to a thought, as models get to see it."""
    final = graph.thoughts[id]["kind"] == "final"
    return Candidate(setting.messages, graph.texts(id), final)
