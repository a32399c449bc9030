"""Evaluate: what thoughts are worth, by verifier and value model (blueprint §1, evaluate operators)."""

import math
from collections.abc import Callable, Sequence

from rlm_agent.models.drive import Asking, ask_value
from rlm_agent.models.protocols import Candidate, Value, Writing
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Allowance, no_usage
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
    if setting.value is not None and min(allowance.calls, allowance.seconds) > 0:
        asked = [id for id in ids if id not in values and graph.stats[id]["value"] is None]
        asked = asked[: _affordable(setting.value, allowance, len(asked))]
        candidates = [_candidate(graph, id, setting) for id in asked]
        scores = yield from ask_value(setting.value, candidates)
        for id, score in zip(asked, scores, strict=False):  # a value model may fall short
            usage["prompt_tokens"] += score.prompt_tokens
            usage["completion_tokens"] += score.tokens
            usage["model_calls"] += score.calls
            if score.error is None and not math.isnan(score.value):
                values[id] = min(1.0, max(0.0, score.value))
    stats = {id: Stats({**graph.stats[id], "value": value}) for id, value in values.items()}
    return Outcome(Writes({}, stats), list(values), usage)


def _affordable(value: Value, allowance: Allowance, wanted: int) -> int:
    """How many candidates can be scored whatever the scores will cost."""
    if isinstance(value, Writing):
        wanted = int(min(wanted, allowance.tokens / value.most_tokens))
        return int(min(wanted, allowance.calls / value.most_calls))
    return int(min(wanted, allowance.calls))


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
        values = [graph.stats[step]["value"] for step in graph.path(id)[1:]]
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


def _candidate(graph: ThoughtGraph, id: str, setting: Setting) -> Candidate:
    final = graph.thoughts[id]["kind"] == "final"
    return Candidate(setting.messages, tuple(graph.steps(id)), final)
