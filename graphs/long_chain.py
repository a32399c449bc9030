"""Long chain of thought: one autoregressive chain that searches within itself, under a thinking budget.

The implicit reasoning model of the blueprint (Besta et al., arXiv 2501.11223), of the kind of QwQ, with its
thinking cut off or kept up by budget forcing (s1, Muennighoff et al., arXiv 2501.19393).
"""

from collections.abc import Sequence

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search, Told
from rlm_agent.graphs.shared.tagged import tagged_steps
from rlm_agent.models.drive import Asking
from rlm_agent.models.prompts import prompts_of
from rlm_agent.models.resolve import load_policy
from rlm_agent.operators.rules.coat import act
from rlm_agent.operators.rules.spans import trace
from rlm_agent.operators.rules.think import (
    THINK,
    Forcing,
    answer,
    evaluate_answer,
    stretches,
    think,
    thinks_on,
)
from rlm_agent.operators.select import own_value
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.formats import WHOLE
from rlm_agent.structure.metaactions import REFLECT
from rlm_agent.structure.steps import Steps
from rlm_agent.structure.thoughts import ThoughtGraph
from rlm_agent.tasks.answers import free_answer

_ANSWER = Steps(format=WHOLE, max_tokens=512, answer=free_answer)
"""The answer of a general model, in one piece behind its thinking."""


@takes_context
def create_long_chain(
    model: Model = "mini",
    *,
    think_open: str = "<think>",
    think_close: str = "</think>",
    wait: str | None = None,
    hurry: str = "Final Answer:",
    thinking: int = 2048,
    waits: int = 0,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that thinks in one long chain and then answers.

    think_open, think_close: the tags around the thinking; an empty `think_open` leaves it to the chat
        template. thinking: how many tokens may be thought (32,000 in s1's code); where they are used up, or
        the budget leaves no more than one step of the answer, the thinking is closed by force.
    hurry: what the answer then begins with.
    waits: how often an end of the thinking is put off (once in s1's code). wait: what the policy is made to
        go on with instead; None is "Wait", as in the paper.

    The policy is asked in the words `Prompts.think`. The thinking is the reply's `reasoning_content`, without
    its tags, before the steps of the answer. Those are cut and checked by `steps`, by default one piece of up
    to 512 tokens; the thinking is not, and no value sees it.

    A specialist that knows no `think` writes a chain of action-thought instead (Satori, arXiv 2502.02508), in
    the words `Prompts.coat`: lines that open with a meta-action, which `thinking` bounds. Its end is put off
    by a reflection, the default `wait` there; it cannot be hurried, and the last answer of the best value
    counts. Raises `InputError` where it knows no `coat` either.

    What the thinking did within itself is told after the fact, see `operators.rules.spans`, and what the
    lines of action-thought do as they are written. Greedy unless a `temperature` is given, as in s1's code.
    `common` is documented at `Common`.
    """
    if min(thinking, waits) < 0 or (waits and not thinking):
        raise InputError(f"thinking={thinking}, waits={waits} make no chain; give at least 0, 1 to think on")
    if not think_close:
        raise InputError("an empty think_close closes no thinking; give the tag that the model knows")
    policy = load_policy(model)
    if prompts_of(policy).think is None:
        prompts_of(policy).require("coat")
        if not thinking:
            raise InputError("thinking=0 leaves nothing to a model that answers as it thinks; give more")
        common["steps"] = tagged_steps(policy, common)
        rules = _tagged(REFLECT if wait is None else wait, thinking, waits)
    else:
        common["steps"] = common.get("steps") or policy.task or _ANSWER
        word = "Wait" if wait is None else wait
        rules = _thinking(Forcing(think_open, think_close, word, hurry, thinking, waits))
    return build("long_chain", policy, rules, common, temperature=0.0)


def _thinking(forcing: Forcing) -> Rules:
    """Thinking between tags, then the answer."""

    def select(search: Search) -> Plan:
        graph = search.graph
        tip = _tip(graph)
        kind, thought = graph.thoughts[tip]["kind"], graph.thoughts[tip].get("operator") == THINK
        return [(tip, 1)] if kind in ("root", "step") or thought else []

    def expand(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
        tip, asking = plan[0][0], setting.put(setting.prompts.require("think"))
        more = thinks_on(graph, tip, forcing, forcing.left(graph, setting, allowance))
        return (yield from (think if more else answer)(graph, tip, forcing, asking, allowance))

    return Rules(
        select=select, expand=expand, evaluate=evaluate_answer, answer=_last_of_best, narrate=_narrate
    )


def _tagged(wait: str, thinking: int, waits: int) -> Rules:
    """A chain of action-thought, whose ends may be put off."""

    def left(graph: ThoughtGraph) -> int:
        return thinking - sum(graph.thoughts[id]["tokens"] for id in graph.walk())

    def select(search: Search) -> Plan:
        graph = search.graph
        tip, finals = _tip(graph), graph.finals()
        open_end = graph.thoughts[tip]["kind"] != "failed" and (tip not in finals or len(finals) <= waits)
        return [(tip, 1)] if open_end and left(graph) > 0 else []

    def expand(graph: ThoughtGraph, plan: Plan, setting: Setting, allowance: Allowance) -> Asking[Outcome]:
        tip, asking = plan[0][0], setting.put(setting.prompts.require("coat"))
        begun = wait if graph.thoughts[tip]["kind"] == "final" else ""
        return (yield from act(graph, tip, begun, asking, allowance, left(graph)))

    return Rules(select=select, expand=expand, answer=_last_of_best)


def _tip(graph: ThoughtGraph) -> str:
    """Where the chain has come to."""
    return [id for id in graph.walk() if not graph.dropped(id)][-1]


def _last_of_best(graph: ThoughtGraph, ids: Sequence[str]) -> str | None:
    """The answer of the highest value, and of several the last."""
    return max(reversed(ids), key=lambda id: own_value(graph, id), default=None)


def _narrate(search: Search, best: str) -> Asking[Told]:
    """What was thought and then answered; and the trace of what the chain did."""
    yield from ()
    graph = search.graph
    thought = [line for id in stretches(graph) for line in graph.thoughts[id]["text"].strip().split("\n")]
    steps = search.setting.steps.granularity.for_answer(graph.steps(best))
    return Told([*thought, *steps], spans=trace(graph, best))
