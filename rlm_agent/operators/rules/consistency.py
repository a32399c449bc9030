"""Evaluate by agreement, where nobody knows the answer (blueprint §1, evaluate operators).

Self-consistency (Wang et al., arXiv 2203.11171): an answer is worth its share of the votes. Mutual
consistency (rStar, Qi et al., arXiv 2408.06195, §3.3): a chain is kept if a second model, which sees
only its beginning, comes to the same answer.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from rlm_agent.models.drive import Asking
from rlm_agent.operators.backpropagate import expected_value
from rlm_agent.operators.prune import close
from rlm_agent.operators.rules.actions import to_the_end
from rlm_agent.operators.select import best
from rlm_agent.operators.setting import Outcome, Setting, only
from rlm_agent.operators.writing import Draft, Place, Shares, compose, draft, places, shares
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.ids import derive_seed
from rlm_agent.structure.thoughts import ThoughtGraph
from rlm_agent.tasks.answers import normalise

DISCRIMINATE = "discriminate"
"""`Thought.operator` of what completes a chain that it only knows the beginning of; the first of `parents` is
the end of that chain."""


def confidences(graph: ThoughtGraph, ids: Sequence[str]) -> dict[str, float]:
    """Of each finished chain, the share of all of `ids` that have its answer, in (0, 1]."""
    answers = {id: normalise(graph.thoughts[id]["answer"]) for id in ids}
    votes = Counter(answers.values())
    return {id: votes[answer] / len(ids) for id, answer in answers.items()}


def discriminate(
    graph: ThoughtGraph, ids: Sequence[str], setting: Setting, allowance: Allowance, count: int = 1
) -> Asking[Outcome]:
    """Let the setting's policy complete each of the finished chains `ids` from its beginning, `count` times.

    Of its steps, a random number between 20 and 80% is shown (rStar, §4.1), none of a single one. `outputs`
    are the new thoughts, which stay in the tree, closed, under the last step that was shown. What the
    allowance does not cover is left out from the end. See `consistent`.
    """
    probes = [(id, number) for id in ids for number in range(count)]
    share = shares(allowance, len(probes), setting)
    shown = [(masked(graph, id, setting.seed, number), 1) for id, number in probes]
    drafts = [
        _probing(graph, place, id, setting, share)
        for place, (id, _) in list(zip(places(graph, shown), probes, strict=True))[: share.count]
    ]
    begun = yield from compose(graph, drafts, setting)
    grown = graph.updated(begun.writes)
    rest = yield from to_the_end(grown, begun.outputs, setting, allowance.less(begun.usage))
    outcome = begun.followed_by(rest)
    outcome = outcome.followed_by(only(close(graph.updated(outcome.writes), outcome.outputs)))
    return outcome.logged(DISCRIMINATE, ids)


def masked(graph: ThoughtGraph, id: str, seed: int, number: int = 0) -> str:
    """The last step of a finished chain that is shown to the second model; the root where none is."""
    chain = graph.chain(id)
    fewest, most = -(-len(chain) // 5), 4 * len(chain) // 5
    if most < fewest:
        return graph.root
    shown = fewest + derive_seed(seed, DISCRIMINATE, id, number) % (most - fewest + 1)
    return chain[shown - 1]


def consistent(graph: ThoughtGraph, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that were completed, and to the same answer at least half of the times.

    A completion that failed, or was not brought to its end, agrees with nothing.
    """
    completed: Counter[str] = Counter()
    agreed: Counter[str] = Counter()
    for end in graph.walk():
        thought = graph.thoughts[end]
        if is_probe(graph, end) and not graph.stats[end]["children"]:
            id = thought["parents"][0]
            completed[id] += 1
            answer = thought.get("answer")
            agreed[id] += answer is not None and normalise(answer) == normalise(graph.thoughts[id]["answer"])
    return [id for id in ids if 2 * agreed[id] >= completed[id] > 0]


def best_agreed(graph: ThoughtGraph, ids: Sequence[str]) -> str | None:
    """The finished chain of the search with the highest reward times confidence; None without any.

    It is one of those that a verifier accepts or, where there are none, of those that are `consistent` or,
    where there are none either, of all. Its reward is the mean of what was backed up along its path.
    """
    ends = own_ends(graph, ids)
    confidence = confidences(graph, ends)

    def score(graph: ThoughtGraph, id: str) -> float:
        return fmean(expected_value(graph, step) for step in graph.path(id)[1:]) * confidence[id]

    accepted = [id for id in ends if graph.stats[id]["value"] == 1.0]
    return best(graph, accepted or consistent(graph, ends) or ends, score)


def own_ends(graph: ThoughtGraph, ids: Sequence[str]) -> list[str]:
    """Of finished chains, those that the search wrote itself."""
    return [id for id in ids if not is_probe(graph, id)]


def is_probe(graph: ThoughtGraph, id: str) -> bool:
    """Whether a thought completes a chain for the sake of comparing, and is no part of the search."""
    return graph.thoughts[id].get("operator") == DISCRIMINATE


def _probing(graph: ThoughtGraph, place: Place, id: str, setting: Setting, share: Shares) -> Draft:
    made = draft(graph, place, setting, share.tokens, base=place[0], calls=share.calls)
    return replace(made, noted={"operator": DISCRIMINATE, "parents": [id]})
