"""The reasoning actions of rStar: five ways to go on from a thought, of which each has its place.

Source: Qi et al., arXiv 2408.06195, §3.2, and the authors' code for which action may follow which.
"""

from collections.abc import Sequence
from dataclasses import replace

from rlm_agent.models.drive import Asking
from rlm_agent.models.prompts import Prompts
from rlm_agent.operators.setting import Outcome, Setting, nothing
from rlm_agent.operators.writing import Draft, Place, Shares, compose, draft, places, shares
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.thoughts import Thought, ThoughtGraph

ACTIONS = ("step", "finish", "subquestion", "answer", "rephrase")
"""A1 one step, A2 all steps that are left, A3 the next sub-question with its answer, A4 the sub-question
answered again, A5 the question put in other words. `Thought.operator` names the action."""
STEP, FINISH, SUBQUESTION, ANSWER, REPHRASE = ACTIONS

SKILLS = (SUBQUESTION, ANSWER, REPHRASE)
"""The actions for which the policy needs words (`Prompts`); the others go on as it does anyway."""

_FOLLOWING = {
    None: (STEP, FINISH, SUBQUESTION, REPHRASE),
    STEP: (STEP, FINISH),
    FINISH: (),
    SUBQUESTION: (STEP, FINISH, SUBQUESTION, ANSWER),
    ANSWER: (STEP, FINISH, SUBQUESTION),
    REPHRASE: (STEP, FINISH, SUBQUESTION),
}
_BEGINNINGS = (STEP, FINISH, SUBQUESTION)
_INHERITED = ("operator", "parents")


def known_actions(asked: Sequence[str] | None, prompts: Prompts) -> tuple[str, ...]:
    """The actions of a policy: those `asked` for or, for None, all that it has learned.

    Raises `UnknownNameError` for a name that is none, and `InputError` for an action that the policy has not
    learned and for actions of which none begins a chain.
    """
    if asked is None:
        return tuple(action for action in ACTIONS if action not in SKILLS or getattr(prompts, action))
    for action in asked:
        if action not in ACTIONS:
            raise UnknownNameError(f"there is no action {action!r}; choose among {', '.join(ACTIONS)}")
        if action in SKILLS:
            prompts.require(action)
    if not set(asked) & set(_BEGINNINGS):
        raise InputError(f"the actions {tuple(asked)} lead nowhere; add one of {', '.join(_BEGINNINGS)}")
    return tuple(action for action in ACTIONS if action in asked)


def following(thought: Thought, actions: Sequence[str]) -> list[str]:
    """Those of `actions` that may follow a thought; a root is followed as a question is."""
    return [action for action in _after(thought) if action in actions]


def _after(thought: Thought) -> Sequence[str]:
    """What follows the action that made a thought; what a human wrote is taken for a step."""
    return _FOLLOWING.get(thought.get("operator"), _FOLLOWING[STEP])


def act(
    graph: ThoughtGraph, id: str, actions: Sequence[str], setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """Take each of `actions` at a thought, in one batch; `outputs` are the ids of the new thoughts, in order.

    Of a `finish`, this is the first step: see `to_the_end`. An `answer` is a child of the sub-question that
    it answers again, and stands in its place (`Thought.base`). What a `rephrase` says is a step of its own.
    What the allowance does not cover is left out from the end.
    """
    share = shares(allowance, len(actions), setting)
    taken = list(zip(places(graph, [(id, share.count)]), actions, strict=False))
    drafts = [_acting(graph, place, action, setting, share) for place, action in taken]
    outcome = yield from compose(graph, drafts, setting)
    return outcome.logged("generate", [id])


def to_the_end(
    graph: ThoughtGraph, ids: Sequence[str], setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """Carry each of `ids` that is unfinished on by single children until its chain has ended.

    Unlike a `rollout`, it merges nothing: the new thoughts belong to what began the chain, and bear its
    `operator` and `parents`. It ends early with the allowance.
    """
    outcome, ends = nothing(), list(ids)
    while True:
        grown = graph.updated(outcome.writes)
        ends = [id for id in ends if grown.thoughts[id]["kind"] == "step"]
        share = shares(allowance.less(outcome.usage), len(ends), setting)
        if not ends or not share.count:
            return outcome
        drafts = [
            _inheriting(grown, place, setting, share)
            for place in places(grown, [(id, 1) for id in ends[: share.count]])
        ]
        written = yield from compose(grown, drafts, setting)
        outcome = outcome.followed_by(written.logged("generate", ends))
        ends = written.outputs


def _acting(graph: ThoughtGraph, place: Place, action: str, setting: Setting, share: Shares) -> Draft:
    id, _ = place
    base = (graph.base(id) or graph.root) if action == ANSWER else id
    asking = setting
    if action in SKILLS:
        asking = setting.put(setting.prompts.require(action), step=graph.thoughts[id]["text"])
    made = draft(graph, place, asking, share.tokens, base=base, calls=share.calls)
    return replace(made, noted={"operator": action})


def _inheriting(graph: ThoughtGraph, place: Place, setting: Setting, share: Shares) -> Draft:
    id, _ = place
    made = draft(graph, place, setting, share.tokens, base=id, calls=share.calls)
    return replace(made, noted={key: value for key, value in graph.thoughts[id].items() if key in _INHERITED})
