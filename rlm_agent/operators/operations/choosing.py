"""Operations that judge the thoughts that they are given, or choose among them; none makes a new one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rlm_agent.models.drive import Asking
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Value
from rlm_agent.models.values import most_of
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.operations.base import (
    Operation,
    Validator,
    Work,
    is_valid,
    require_judge,
    require_one,
)
from rlm_agent.operators.operations.texts import describe
from rlm_agent.operators.select import own_value, top
from rlm_agent.operators.setting import Outcome, Setting, nothing, only
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.steps import Verifier
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes

Scorer = Callable[[str, str], float]
"""From the question and a text to a number in [0, 1]."""

Chooser = Callable[[str, Sequence[str]], Sequence[int]]
"""From the question and the texts to the indexes, from 0, of those that go on, in their order."""

_BELOW_ONE = 1 - 2**-20
"""What a text may be worth at most that a verifier has not accepted: 1 is the verifier's word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score(Operation):
    """What the thoughts that it is given are worth; it passes all of them on.

    by: a function of the question and a text that gives a number in [0, 1], or a `Value`. By default the
        verifier judges answers and the strategy's value what it leaves, if nobody has judged it before.

    A function that raises or gives no number leaves the thought without a value, and `Stats.feedback` says
    why. An answer that the verifier accepts is worth 1, and no other text where there is a verifier.
    """

    by: Scorer | Value | None = None

    operator = "evaluate"
    passes = True

    def run(self, work: Work) -> Asking[Outcome]:
        if self.by is None:
            outcome = yield from evaluate(work.graph, work.inputs, work.setting, work.allowance)
        elif isinstance(self.by, Value):
            setting = replace(work.setting, value=self.by)
            outcome = yield from evaluate(_forgetting(work), work.inputs, setting, work.allowance)
        else:
            outcome = scored(work, self.by)
        return replace(outcome, outputs=list(work.inputs))

    def wants(self, inputs: int, setting: Setting) -> Allowance:
        judge = setting.value if self.by is None else self.by
        calls, tokens = most_of(judge) if isinstance(judge, Value) else (0, 0)
        return Allowance(tokens=inputs * tokens, calls=inputs * calls, nodes=0, seconds=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepBest(Operation):
    """The `n` thoughts of the highest value, best first; the first of equal ones, what has no value last."""

    n: int = 1

    operator = "keep_best"
    passes = True

    def run(self, work: Work) -> Asking[Outcome]:
        yield from ()
        kept = top(work.graph, work.inputs, own_value, self.n)
        return chosen(work, kept, self.operator)

    def check(self, prompts: Prompts, verifier: Verifier | None, *, fed: bool) -> None:
        Operation.check(self, prompts, verifier, fed=fed)
        require_one(self, "n")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepValid(Operation):
    """The thoughts that `valid` finds so, by default those whose answer the verifier accepts."""

    valid: Validator | None = None

    operator = "keep_valid"
    passes = True

    def run(self, work: Work) -> Asking[Outcome]:
        yield from ()
        return chosen(work, [id for id in work.inputs if is_valid(work, id, self.valid)], self.operator)

    def check(self, prompts: Prompts, verifier: Verifier | None, *, fed: bool) -> None:
        Operation.check(self, prompts, verifier, fed=fed)
        require_judge(self.name, self.valid, verifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector(Operation):
    """The thoughts that `choose` picks, by their indexes among those that it is given.

    One that raises, or names an index that there is not, picks none, and `Stats.feedback` of the thought
    that stands for the operation says why.
    """

    choose: Chooser

    operator = "select"

    def run(self, work: Work) -> Asking[Outcome]:
        yield from ()
        try:
            picked = self.choose(work.graph.question, work.texts(work.inputs))
            kept = [work.inputs[index] for index in picked]
        except Exception as error:  # noqa: BLE001  a user's function meets a model's text
            stats = Stats({**work.graph.stats[work.node], "feedback": f"nothing chosen: {describe(error)}"})
            return only(Writes({}, {work.node: stats})).logged(self.operator, work.inputs)
        return chosen(work, list(dict.fromkeys(kept)), self.operator)


def scored(work: Work, by: Scorer) -> Outcome:
    """The user's numbers as values; `outputs` are the thoughts that got one."""
    stats, graph = {}, work.graph
    for id in work.inputs:
        if work.setting.verifier is not None and graph.stats[id]["value"] == 1.0:
            continue
        value, fault = _number(by, graph.question, *work.texts([id]))
        most = 1.0 if work.setting.verifier is None else _BELOW_ONE
        stats[id] = Stats({**graph.stats[id], "value": None if value is None else min(value, most)})
        if value is None:
            stats[id]["feedback"] = f"no score: {fault}"
    valued = [id for id, one in stats.items() if one["value"] is not None]
    return replace(only(Writes({}, stats)), outputs=valued).logged("evaluate", work.inputs)


def chosen(work: Work, kept: Sequence[str], operator: str) -> Outcome:
    """The outcome of an operation that only chooses."""
    return replace(nothing(), outputs=list(kept)).logged(operator, work.inputs)


def _number(by: Scorer, question: str, text: str) -> tuple[float | None, str]:
    """The number that a user's function gives, brought to [0, 1], or None and why not."""
    try:
        number = float(by(question, text))
    except Exception as error:  # noqa: BLE001  a user's function meets a model's text
        return None, describe(error)
    return (None, "not a number") if math.isnan(number) else (min(1.0, max(0.0, number)), "")


def _forgetting(work: Work) -> ThoughtGraph:
    """The graph as if nobody had valued what the operation is given."""
    stats = {id: Stats({**work.graph.stats[id], "value": None}) for id in work.inputs}
    return work.graph.updated(Writes({}, stats))
