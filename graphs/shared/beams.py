"""What strategies share that carry a few open leaves on together and begin anew: beams, chains, particles."""

from collections.abc import Sequence

from rlm_agent.graphs.machine.common import Common
from rlm_agent.graphs.machine.rules import Search
from rlm_agent.operators.select import Score, best, likelihood, own_value
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.thoughts import ThoughtGraph


def leaves(search: Search) -> list[str]:
    """The unfinished chains that have been begun, by their last steps; all of them go on in each round."""
    return [
        id for id in reached(search) if id != search.graph.root and not search.graph.stats[id]["children"]
    ]


def reached(search: Search) -> list[str]:
    """What the last round planned to go on from or wrote, and is still open, in the order of `walk`."""
    run, stats = search.run, search.graph.stats
    ids = dict.fromkeys([*(id for id, _ in run["plan"]), *run["fresh"]])
    return [id for id in ids if not stats[id]["closed"]]


def onward(search: Search) -> Plan:
    """One step on from the end of each unfinished chain, the first one from the question."""
    root = search.graph.root
    ends = leaves(search) if search.graph.stats[root]["children"] else [root]
    return [(id, 1) for id in ends]


def begin(search: Search, count: int) -> Plan:
    """Sample `count` first steps: at the start, and anew where all chains have ended without a result.

    A result is an answer, and, where there is a verifier, one that it accepts.
    """
    graph = search.graph
    begun = graph.stats[graph.root]["children"] > 0
    done = begun and (search.setting.verifier is None or search.run["verified"]) and graph.ends()
    return [] if done else [(graph.root, count)]


def hopeless(search: Search, id: str) -> bool:
    """Whether a thought neither is nor leads to a result: it has failed, or the verifier rejects it."""
    kind, value = search.graph.thoughts[id]["kind"], search.graph.stats[id]["value"]
    return kind == "failed" or (kind == "final" and search.setting.verifier is not None and not value)


def ranking(common: Common) -> Score:
    """By a chain's last value, or, without a value model, by the likelihood of the whole chain."""
    return own_value if common.get("value") is not None else likelihood


def best_answer(graph: ThoughtGraph, ids: Sequence[str]) -> str | None:
    """The finished chain of the highest value, or, where nobody has judged any, the likeliest."""
    judged = any(graph.stats[id]["value"] is not None for id in ids)
    return best(graph, ids, own_value if judged else likelihood)
