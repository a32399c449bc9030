"""Write whole texts: thoughts that are no steps of a chain, but parts or versions of a solution.

Source: Graph of Thoughts (Besta et al., arXiv 2308.09687, §3): a transformation asks in its own words, with
the texts of other thoughts in them, and a parser takes from the reply what is to be kept.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rlm_agent.models.drive import Asking, ask_policy
from rlm_agent.models.protocols import Completion
from rlm_agent.operators.setting import Outcome, Setting, nothing
from rlm_agent.operators.writing import Draft, Shares, births, draft, read, shares, spent_on
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.formats import MODEL_END
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.steps import last_step
from rlm_agent.structure.thoughts import Thought, ThoughtGraph

Parser = Callable[[str], str | Sequence[str] | None]
"""From a reply to the text of the thought, or to the texts of several ones; None where it has none."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One call: the conversation in which a text is asked for, and the thoughts that it is made of."""

    setting: Setting
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What becomes of the replies.

    `operator` is noted with the thoughts. Each reply holds `parts` texts, which `parse` finds. With
    `answers`, a text is a whole solution, read and checked as the setting's steps say, and final where it
    holds an answer; else it is a step of its own.
    """

    operator: str
    parse: Parser | None = None
    parts: int = 1
    answers: bool = False


def write(
    graph: ThoughtGraph, under: str, asked: Sequence[Asked], reading: Reading, allowance: Allowance
) -> Asking[Outcome]:
    """A text for each of `asked`; `outputs` are the ids of the new thoughts, in order.

    They are children of `under`, go on from the root, and name those that they are made of as `parents`.
    As many are written in a batch as the allowance covers, until nothing of it is left. A reply that
    fails, that the parser refuses, or from which it takes another number of parts than asked for, fails in
    all its parts and harms no other.
    """
    outcome, left = nothing(), list(asked)
    while left:
        rest = allowance.less(outcome.usage)
        share = shares(rest, len(left), left[0].setting, nodes=reading.parts)
        if not share.count:
            break
        batch, left = left[: share.count], left[share.count :]
        grown = graph.updated(outcome.writes)
        outcome = outcome.followed_by((yield from _batch(grown, under, batch, reading, share)))
    inputs = list(dict.fromkeys(id for one in asked for id in one.parents))
    return outcome.logged(reading.operator, inputs)


def text_of(graph: ThoughtGraph, id: str, setting: Setting) -> str:
    """What a thought says, behind the given steps where the search began with such; the root's question."""
    delimiter = setting.steps.granularity.delimiter
    return graph.question if id == graph.root else delimiter.join(graph.steps(id))


def lineage(graph: ThoughtGraph, id: str) -> list[str]:
    """What a text was made of, what that was made of, and so on, and itself, in the order of `walk`."""
    found, pending = {id}, [id]
    while pending:
        sources = graph.thoughts[pending.pop()].get("parents", [])
        pending += [source for source in sources if source not in found]
        found.update(sources)
    return [source for source in graph.walk() if source in found]


def _batch(
    graph: ThoughtGraph, under: str, asked: Sequence[Asked], reading: Reading, share: Shares
) -> Asking[Outcome]:
    started, first = time.monotonic(), graph.stats[under]["children"]
    drafts = [
        _drafted(graph, (under, first + number * reading.parts), one, reading, share)
        for number, one in enumerate(asked)
    ]
    completions = yield from ask_policy(asked[0].setting.policy, [one.asked for one in drafts])
    thoughts: dict[str, Thought] = {}
    for one, place, completion in zip(asked, drafts, completions, strict=True):
        thoughts |= _thoughts(graph, place, completion, one.setting, reading)
    usage = spent_on(completions, time.monotonic() - started, nodes=len(thoughts))
    return Outcome(births(graph, thoughts), list(thoughts), usage)


def _drafted(
    graph: ThoughtGraph, place: tuple[str, int], asked: Asked, reading: Reading, share: Shares
) -> Draft:
    made = draft(graph, place, asked.setting, share.tokens, base=graph.root, calls=share.calls)
    return replace(made, noted={"operator": reading.operator, "parents": list(asked.parents)})


def _thoughts(
    graph: ThoughtGraph, draft: Draft, completion: Completion, setting: Setting, reading: Reading
) -> dict[str, Thought]:
    """The thoughts that a reply amounts to, by id; what was spent on it stands with the first."""
    if not reading.answers:
        steps = replace(setting.steps, check=None, answer=last_step, answer_end=MODEL_END)
        setting = replace(setting, steps=steps)
    parent, first = draft.place
    found = {}
    for index, part in enumerate(_split(completion, reading), first):
        thought = read(graph, replace(draft, place=(parent, index)), part, setting)
        found[child_id(parent, index)] = thought if reading.answers else _as_part(thought)
    return found


def _as_part(thought: Thought) -> Thought:
    """The same thought without an answer: what is only a part ends nothing."""
    if thought["kind"] != "final":
        return thought
    part = thought.copy()
    del part["answer"]
    part["kind"] = "step"
    return part


def _split(completion: Completion, reading: Reading) -> list[Completion]:
    """The reply as if each of its parts had come by itself."""
    parts = [completion] * reading.parts
    if completion.finish not in ("error", "length") and reading.parse is not None:
        texts, fault = _parsed(completion.text, reading.parse, reading.parts)
        parts = [replace(completion, text=text) for text in texts] or [
            replace(completion, finish="error", error=fault)
        ] * reading.parts
    first, *others = parts
    return [first, *(replace(part, tokens=0, logprob=0.0, interval=None) for part in others)]


def _parsed(text: str, parse: Parser, parts: int) -> tuple[list[str], str]:
    """As many texts as asked for, or none and why not."""
    try:
        said = parse(text)
        texts = [said] if isinstance(said, str) else [str(part) for part in said or ()]
    except Exception as error:  # noqa: BLE001  a user's function meets a model's text
        return [], f"the parser raised {describe(error)}"
    if said is None:
        return [], "the parser found nothing in the reply"
    if len(texts) != parts:
        return [], f"the parser found {len(texts)} texts in the reply, not {parts}"
    return texts, ""


def describe(error: Exception) -> str:
    """An error as a part of a reason."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
