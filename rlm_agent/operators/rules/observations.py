"""Observations: the steps of a chain that are not the policy's own, and how a chain with such steps is read.

Source: ReAct (Yao et al., arXiv 2210.03629). What was observed is never read as an answer or as a call.
"""

from collections.abc import Sequence
from dataclasses import replace

from rlm_agent.models.protocols import Completion
from rlm_agent.operators.setting import Setting
from rlm_agent.operators.writing import Place
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.ids import child_id, fingerprint
from rlm_agent.structure.steps import Checked, Steps
from rlm_agent.structure.thoughts import Thought, ThoughtGraph
from rlm_agent.tools.actions import OBSERVATION, claims_observation, read_finish
from rlm_agent.tools.toolbox import Toolbox

ACT = "act"
"""The `Thought.operator` of what a tool said."""

RETRIEVE = "retrieve"
"""The `Thought.operator` of what a retriever found."""

_ROOM = 3
"""By how many times the steps of a specialist that may act outnumber those that its checker reads."""

_KNOWING = "\x1f"
"""Stands between a checker's own state and what tells what has been observed."""


def is_observation(graph: ThoughtGraph, id: str) -> bool:
    """Whether a thought is what a tool said or a retriever found."""
    return graph.thoughts[id].get("operator") in (ACT, RETRIEVE)


def observed(graph: ThoughtGraph, id: str) -> str:
    """The observation that answers a thought, or the thought itself where it called no tool."""
    first = child_id(id, 0)
    return first if graph.stats[id]["children"] and is_observation(graph, first) else id


def mended(reply: Completion, tools: Toolbox) -> Completion:
    """A reply as one who may act meant it.

    `Finish[answer]` ends the chain, a call does not, though the policy may end its turn with it, and
    an observation that the policy has made up is no step.
    """
    if reply.finish not in ("stop", "end"):
        return reply
    if claims_observation(reply.text):
        return replace(reply, finish="error", error="an observation that no tool has made")
    if read_finish(reply.text) is not None:
        return replace(reply, finish="end")
    return replace(reply, finish="stop") if tools.asked(reply.text) else reply


def acting(steps: Steps, tools: Toolbox | None = None) -> Steps:
    """The steps of one who may act: the answer is what is finished with, else what its own steps say.

    A step checker is not asked about calls of `tools`, ends and observations, nor are its answers read off
    them. They leave its state as it is, and what has been observed is noted beside it: thoughts in one state
    know the same as well. Each step of such a chain has room for a call and its observation beside it.
    """

    def called(step: str) -> bool:
        return tools is not None and bool(tools.asked(step))

    def answer(question: str, chain: Sequence[str]) -> str | None:
        finished = read_finish(chain[-1]) if chain else None
        if finished is not None:
            return finished or None
        own = [step for step in chain if steps.check is None or not called(step)]
        return observing(steps).answer(question, own)

    def check(question: str, state: str | None, step: str) -> Checked:
        assert steps.check is not None
        before, _, known = (state or "").partition(_KNOWING)
        if read_finish(step) is not None:
            return Checked(state=state, final=True)
        if called(step) or step.startswith(OBSERVATION):
            return Checked(state=f"{before}{_KNOWING}{fingerprint(known, step)}")
        checked = steps.check(question, before or None, step)
        if checked.state is None or not known:
            return checked
        return replace(checked, state=f"{checked.state}{_KNOWING}{known}")

    if steps.check is None:
        return replace(steps, answer=answer)
    return replace(steps, answer=answer, check=check, max_steps=_ROOM * steps.max_steps)


def observing(steps: Steps) -> Steps:
    """The same steps, but that the answer is read off the policy's own alone."""

    def answer(question: str, chain: Sequence[str]) -> str | None:
        return steps.answer(question, [step for step in chain if not step.startswith(OBSERVATION)])

    return replace(steps, answer=answer)


def with_delimiter(steps: Steps) -> Steps:
    """The same steps; `InputError` where an observation could not stand among them."""
    if not steps.granularity.delimiter:
        raise InputError(
            "an observation is a step that ends at a delimiter; leave steps out, or give steps by line or "
            "paragraph"
        )
    return steps


def observation(
    graph: ThoughtGraph, place: Place, said: str, setting: Setting, operator: str = ACT
) -> Thought:
    """What was said to a thought, as its child at a place; the text is one step, whatever delimits steps."""
    steps, (id, index) = setting.steps, place
    parent = graph.thoughts[id]
    depth = parent["depth"] + 1
    thought = Thought(
        parent=id,
        index=index,
        depth=depth,
        kind="step" if depth < steps.max_steps else "failed",
        text=OBSERVATION + in_one_step(said, steps),
        tokens=0,
        logprob=0.0,
        operator=operator,
    )
    if thought["kind"] == "failed":
        thought["reason"] = f"no answer within {steps.max_steps} steps"
    if steps.check is not None:
        state = steps.check(graph.question, parent.get("state"), thought["text"]).state
        thought.update({"state": state} if state is not None else {})
    return thought


def in_one_step(text: str, steps: Steps) -> str:
    """A text without what delimits steps, and without a box that the policy's own text might close."""
    delimiter = steps.granularity.delimiter
    parts = text.split(delimiter) if delimiter else [text]
    return " ".join(part.strip() for part in parts if part.strip()).replace("\\boxed{", "boxed {")
