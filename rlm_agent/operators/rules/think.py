"""Think: one long chain of thought between tags, whose end is forced or put off, and then the answer.

Source: budget forcing (s1, Muennighoff et al., arXiv 2501.19393): where the tokens for thinking are used up,
the closing tag is written for the policy; where it would close too soon, it reads "Wait" instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rlm_agent.models.drive import Asking
from rlm_agent.models.protocols import Completion
from rlm_agent.operators.evaluate import evaluate
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.operators.writing import Draft, compose, draft, places, shares
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.formats import delimited
from rlm_agent.structure.steps import Steps
from rlm_agent.structure.thoughts import ThoughtGraph

THINK = "think"
"""`Thought.operator` of a stretch of thinking: no step of the answer."""
HURRY = "hurry"
"""`Thought.operator` of the first step of an answer that was asked for before the thinking had ended."""


@dataclass(frozen=True, slots=True)
class Forcing:
    """What is put in the policy's mouth, and when.

    `opened` and `closed` are the tags around its thinking; an empty `opened` is for a chat template that
    opens it. `wait` begins what it thinks after an end that was put off, at most `waits` times, and `hurry`
    the answer where its thinking was cut off. `thinking` bounds the tokens of all its thinking.
    """

    opened: str = "<think>"
    closed: str = "</think>"
    wait: str = "Wait"
    hurry: str = "Final Answer:"
    thinking: int = 2048
    waits: int = 0

    def left(self, graph: ThoughtGraph, setting: Setting, allowance: Allowance) -> int:
        """How many tokens may still be thought; one step of the answer, and its call, are kept back."""
        if min(allowance.calls, allowance.nodes) < 2:
            return 0
        used = sum(graph.thoughts[id]["tokens"] for id in stretches(graph))
        return int(max(0, min(self.thinking - used, allowance.tokens - setting.steps.longest)))


def stretches(graph: ThoughtGraph) -> list[str]:
    """The stretches of thinking of a chain, in order."""
    return [id for id in graph.walk() if graph.thoughts[id].get("operator") == THINK]


def thinks_on(graph: ThoughtGraph, tip: str, forcing: Forcing, left: int) -> bool:
    """Whether the chain that has come to `tip` goes on with thinking, with so many tokens `left` for it.

    A chain that could not be thought on (an error, nothing said) turns to its answer.
    """
    thought = graph.thoughts[tip]
    if left <= 0 or thought["kind"] == "root":
        return left > 0
    thinking = thought.get("operator") == THINK and thought["kind"] == "step"
    return thinking and len(stretches(graph)) <= forcing.waits


def think(
    graph: ThoughtGraph, tip: str, forcing: Forcing, setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """One more stretch of thinking after `tip`, in at most the tokens that are left; `outputs` is its id.

    It is a step whatever ended it: the closing tag, the end of the policy's turn or of the tokens.
    """
    left = forcing.left(graph, setting, allowance)
    steps = Steps(format=delimited(forcing.closed), max_tokens=left, max_steps=forcing.waits + 2)
    begun = forcing.wait if stretches(graph) else ""

    def form(made: Draft) -> Draft:
        request = replace(
            made.request,
            prefix=_thinking(graph, forcing) + begun,
            max_tokens=min(left, made.request.max_tokens),
        )
        mend = partial(_stretch, begun=begun, opened=forcing.opened)
        return replace(made, request=request, noted={"operator": THINK}, mend=mend)

    thinking = replace(setting, steps=steps, distinct=False)
    outcome = yield from _write(graph, tip, tip, thinking, allowance, form)
    return outcome.logged("generate", [tip])


def answer(
    graph: ThoughtGraph, tip: str, forcing: Forcing, setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """The next step of the answer, behind the closed thinking; `outputs` is its id.

    The steps of the answer are a chain of their own, which begins at the root: what was thought is no part of
    it, neither for the step checker nor for a value.
    """
    steps = [id for id in graph.path(tip)[1:] if graph.thoughts[id].get("operator") != THINK]
    if steps:
        hurried = graph.thoughts[steps[0]].get("operator") == HURRY
    else:
        hurried = forcing.left(graph, setting, allowance) == 0

    def form(made: Draft) -> Draft:
        request = replace(made.request, prefix=_head(graph, forcing, hurried=hurried) + made.request.prefix)
        noted = {"operator": HURRY} if hurried and not steps else {}
        return replace(made, request=request, noted=noted, mend=partial(_behind, tag=forcing.closed))

    outcome = yield from _write(graph, tip, tip if steps else graph.root, setting, allowance, form)
    return outcome.logged("generate", [tip])


def evaluate_answer(
    graph: ThoughtGraph, ids: Sequence[str], setting: Setting, allowance: Allowance
) -> Asking[Outcome]:
    """`evaluate` those of `ids` that are steps of the answer."""
    answered = [id for id in ids if graph.thoughts[id].get("operator") != THINK]
    outcome = yield from evaluate(graph, answered, setting, allowance)
    return outcome


def go_on(
    graph: ThoughtGraph, tip: str, begun: str, setting: Setting, allowance: Allowance, longest: int
) -> Asking[Outcome]:
    """The next step after `tip`, in at most `longest` tokens and begun with `begun`; `outputs` is its id.

    What is to be gone on from may be an answer: its end is then put off.
    """

    def form(made: Draft) -> Draft:
        request = replace(
            made.request, prefix=made.request.prefix + begun, max_tokens=min(longest, made.request.max_tokens)
        )
        return replace(made, request=request, mend=partial(_begin, begun=begun))

    outcome = yield from _write(graph, tip, tip, setting, allowance, form)
    return outcome.logged("generate", [tip])


def _write(
    graph: ThoughtGraph,
    tip: str,
    base: str,
    setting: Setting,
    allowance: Allowance,
    form: Callable[[Draft], Draft],
) -> Asking[Outcome]:
    """One thought under `tip`, drafted as going on from `base` and then given its form."""
    share = shares(allowance, 1, setting)
    drafts = [
        form(draft(graph, place, setting, share.tokens, base=base, calls=share.calls))
        for place in places(graph, [(tip, share.count)])
    ]
    outcome = yield from compose(graph, drafts, setting)
    return outcome


def _begin(completion: Completion, begun: str) -> Completion:
    return replace(completion, text=begun + completion.text)


def _behind(completion: Completion, tag: str) -> Completion:
    """A reply without what stands before a tag that the policy wrote once more."""
    return replace(completion, text=completion.text.split(tag)[-1])


def _stretch(completion: Completion, begun: str, opened: str) -> Completion:
    """A stretch of thinking as it is read: without a tag that the policy opened again, and never cut off."""
    text = completion.text
    if opened and text.lstrip().startswith(opened):
        text = text.lstrip().removeprefix(opened)
    finish = completion.finish if completion.finish == "error" else "stop"
    return replace(completion, text=begun + text, finish=finish)


def _thinking(graph: ThoughtGraph, forcing: Forcing) -> str:
    """The assistant's turn as far as it has been thought; the stretches stand on lines of their own."""
    opened = f"{forcing.opened}\n" if forcing.opened else ""
    texts = [graph.thoughts[id]["text"] for id in stretches(graph) if graph.thoughts[id]["kind"] == "step"]
    return opened + "".join(f"{text.strip()}\n" for text in texts)


def _head(graph: ThoughtGraph, forcing: Forcing, *, hurried: bool) -> str:
    """The assistant's turn up to its answer."""
    ask = f"{forcing.hurry} " if hurried and forcing.hurry else ""
    return f"{_thinking(graph, forcing)}{forcing.closed}\n\n{ask}"
