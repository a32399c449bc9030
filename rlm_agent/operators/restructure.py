"""Restructure: merge thoughts that say the same, tell a tree as one line (blueprint §1, structure operators).

Source of the line: Journey Learning (Qin et al., arXiv 2410.18982), which walks a reasoning tree depth first,
with a limited number of trials on wrong branches at each node, so that the detours are told, too.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rlm_agent.models.drive import Asking
from rlm_agent.models.patterns import fill
from rlm_agent.operators.prune import alike, twin
from rlm_agent.operators.select import Score, own_value, top
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.operators.writing import compose, draft, places
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.formats import WHOLE
from rlm_agent.structure.index import in_state, state_of
from rlm_agent.structure.metaactions import CONTINUE, EXPLORE, REFLECT
from rlm_agent.structure.steps import Steps
from rlm_agent.structure.thoughts import Stats, ThoughtGraph, Writes

RESTRUCTURE = "restructure"
"""`Thought.operator` of a text that tells a search anew."""


def merge(graph: ThoughtGraph, ids: Sequence[str], *, everywhere: bool = False) -> Writes:
    """Close those of `ids` that say what another thought says, and note that one as `Stats.merged`.

    The other one is the first-born sibling that says the same or, `everywhere`, the first thought of the tree
    that has the same state; of `ids`, the earlier ones come first. Failed thoughts merge with nobody.
    """
    stats: dict[str, Stats] = {}
    for id in ids:
        same, state = twin(graph, id), state_of(graph.thoughts[id])
        if same == id and everywhere and state is not None:
            same = graph.find(in_state(state))[0]
        if same != id:
            same = stats.get(same, graph.stats[same]).get("merged", same)
            stats[id] = Stats({**graph.stats[id], "closed": True, "merged": same})
    return Writes({}, stats)


Turn = Literal["on", "back", "again"]


@dataclass(frozen=True, slots=True)
class Visit:
    """A stop of a walk through the tree.

    The walk goes `on` to a thought from the one before, turns `back` to one where it has been, or goes from
    there to another one: `again`.
    """

    thought: str
    turn: Turn


def linearise(
    graph: ThoughtGraph,
    leaf: str,
    right: Collection[str],
    wrong: int,
    score: Score = own_value,
    *,
    ended: bool = False,
) -> list[Visit]:
    """The walk from the root to a leaf that first tries up to `wrong` wrong branches at each thought.

    `right` are leaves that are as good: what leads to one of them is no wrong branch, nor is what says the
    same as that, or what failed. The branches that score highest are tried, the best first, each along its
    best thoughts down to its end, with a turn back from there. With `ended`, only branches count that come to
    an answer.
    """
    live = {id for end in (leaf, *right) for id in graph.chain(end)}
    ways = {id for end in graph.finals() for id in graph.chain(end)} if ended else None
    tree = _Tree(graph, score, ways)
    visits: list[Visit] = []
    above = graph.root
    for step in graph.chain(leaf):
        for branch in tree.dead_ends(above, live)[:wrong]:
            visits += _enter(branch, visits)
            visits.append(Visit(above, "back"))
        visits += _enter([step], visits)
        above = step
    return visits


def _enter(ids: Sequence[str], visits: Sequence[Visit]) -> list[Visit]:
    """The visits of a line of thoughts after those before."""
    turned = bool(visits) and visits[-1].turn == "back"
    return [Visit(id, "again" if turned and id == ids[0] else "on") for id in ids]


@dataclass(frozen=True, slots=True)
class _Tree:
    """What is worth a look in a tree: of `ways` alone, if given, the best first."""

    graph: ThoughtGraph
    score: Score
    ways: Collection[str] | None

    def dead_ends(self, above: str, live: Collection[str]) -> list[list[str]]:
        """Of each branch under a thought that leads nowhere, the line down to its end."""
        firsts = [id for id in self._below(above) if not any(same in live for same in alike(self.graph, id))]
        return [self._down(id) for id in firsts]

    def _down(self, id: str) -> list[str]:
        line = [id]
        while below := self._below(line[-1]):
            line.append(below[0])
        return line

    def _below(self, above: str) -> list[str]:
        graph = self.graph
        found = [id for id in graph.children(above) if graph.base(id) == above and self._tells(id)]
        return top(graph, found, self.score, len(found))

    def _tells(self, id: str) -> bool:
        graph = self.graph
        new = "merged" not in graph.stats[id] and twin(graph, id) == id
        return new and graph.thoughts[id]["kind"] != "failed" and (self.ways is None or id in self.ways)


@dataclass(frozen=True, slots=True)
class Wording:
    """How a turn is put in words: `{step}` is the text of a thought.

    For a turn back, `{why}` says what was wrong, `{place}` where the walk goes on, and `{kept}` how many
    steps are kept.
    """

    on: str = "{step}"
    back: str = "Wait. {why}. I go back to {place} and try something else."
    again: str = "{step}"


PLAIN = Wording()
TAGGED = Wording(f"{CONTINUE}{{step}}", f"{REFLECT}back to {{kept}}", f"{EXPLORE}{{step}}")
"""As a chain of action-thought (Satori, arXiv 2502.02508), in the form that `tasks.countdown.coat` reads."""


def in_words(graph: ThoughtGraph, visits: Sequence[Visit], wording: Wording = PLAIN) -> list[str]:
    """A walk as the steps of one long chain, behind those that were given."""
    lines = graph.opening
    for number, visit in enumerate(visits):
        thought = graph.thoughts[visit.thought]
        if visit.turn == "back":
            why, kept = _fault(graph, visits[number - 1].thought), thought["depth"]
            place = f"step {kept}" if kept else "the beginning"
            lines.append(fill(wording.back, why=why, place=place, kept=str(kept)))
        else:
            lines.append(fill(wording.again if visit.turn == "again" else wording.on, step=thought["text"]))
    return lines


def _fault(graph: ThoughtGraph, id: str) -> str:
    """Why a walk turns back from a thought."""
    criticised = " ".join(graph.stats[id].get("feedback", "").split()).rstrip(".")
    final = graph.thoughts[id]["kind"] == "final"
    return criticised or ("That is not the answer" if final else "This leads nowhere")


def smooth(
    graph: ThoughtGraph, leaf: str, told: Sequence[str], setting: Setting, allowance: Allowance, longest: int
) -> Asking[Outcome]:
    """Let the policy tell a long chain anew, in at most `longest` tokens, so that it reads as one piece.

    `outputs` is the id of the new text, a closed thought under the leaf with the leaf's answer, if there was
    anything left for it and the policy came to an end. Raises `InputError` for a policy that has not learned
    to smooth.
    """
    ask = setting.prompts.require("smooth")
    answer = graph.thoughts[leaf].get("answer")
    steps = Steps(
        format=WHOLE, max_tokens=longest, answer=lambda question, text: answer if any(text) else None
    )
    asking = replace(setting.put(ask, journey="\n".join(told)), steps=steps, distinct=False)
    fitting, max_tokens = allowance.samples(1, longest)
    drafts = [
        draft(graph, place, asking, max_tokens, base=graph.root) for place in places(graph, [(leaf, 1)])
    ]
    texts = [
        replace(one, request=replace(one.request, prefix=""), noted={"operator": RESTRUCTURE})
        for one in drafts[:fitting]
    ]
    outcome = yield from compose(graph, texts, asking)
    usable = [id for id in outcome.outputs if outcome.writes.thoughts[id]["kind"] == "final"]
    return replace(outcome, outputs=usable).logged(RESTRUCTURE, [leaf])
