"""Retrieve: passages answer the thoughts that ask for them (blueprint §1, ecosystem operators).

Sources: IRCoT (Trivedi et al., arXiv 2212.10509) for a step as the query, ReAct (Yao et al., arXiv
2210.03629) for a query as an action, FLARE (Jiang et al., arXiv 2305.06983) for retrieval where the policy is
unsure; here that is its mean entropy over a step. Passages as the children of the thought that asks, to be
searched over like any others, are ours.
"""

import time
from collections.abc import Mapping, Sequence

from rlm_agent.models.drive import Asking, ask_tools
from rlm_agent.models.retrieval import LONGEST_QUERY, Retrieval
from rlm_agent.models.retrievers import Search
from rlm_agent.operators.rules.observations import RETRIEVE, in_one_step, observation
from rlm_agent.operators.setting import Outcome, Setting, nothing
from rlm_agent.operators.writing import Place, Plan, births
from rlm_agent.structure.budget import Allowance, no_usage
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.index import asked_for
from rlm_agent.structure.steps import Steps
from rlm_agent.structure.thoughts import Cited, Thought, ThoughtGraph, Writes
from rlm_agent.tools.actions import OBSERVATION
from rlm_agent.tools.calling import ERROR


def retrieve(
    graph: ThoughtGraph,
    plan: Plan,
    queries: Mapping[str, str],
    setting: Setting,
    retrieval: Retrieval,
    allowance: Allowance,
) -> Asking[Outcome]:
    """Give each planned thought the next observations of what its query finds; `outputs` are those.

    `queries` are those of the planned thoughts. The i-th child of a thought shows the i-th best passages; the
    first one keeps the list of all (`Thought.passages`), so that the following ones need no search, and no
    thought gets more than there are. The queries of one call are searched for together, and an identical one
    of the same question not again. An observation takes one node and no tokens.

    A retriever that raises, takes too long or returns something odd is told of in the only observation, and
    so is one that finds nothing. Where it fails on several queries, each is tried alone.
    """
    asked = [] if allowance.spent else list(plan)
    started, room = time.monotonic(), allowance.nodes
    new = {id: queries[id] for id, _ in asked if not graph.stats[id]["children"]}
    found = yield from _found(graph, new, retrieval)
    thoughts: dict[str, Thought] = {}
    for id, count in asked:
        listed, born = found[new[id]] if id in new else shown_by(graph, id), graph.stats[id]["children"]
        for index in range(born, min(born + count, len(listed))):
            if len(thoughts) < room:
                thoughts[child_id(id, index)] = _observed(graph, (id, index), listed, queries[id], setting)
    if not thoughts:
        return nothing()
    usage = no_usage()
    usage["nodes"], usage["seconds"] = len(thoughts), time.monotonic() - started
    inputs = dict.fromkeys(str(thought["parent"]) for thought in thoughts.values())
    return Outcome(births(graph, thoughts), list(thoughts), usage).logged(RETRIEVE, list(inputs))


def before(graph: ThoughtGraph, steps: Steps, retrieval: Retrieval) -> Asking[Outcome]:
    """Let the root hold what the question finds: `observed`, to be read before all else, and `sources`."""
    found = yield from _search([graph.question], retrieval, retrieval.passages, 1)
    listed = found[graph.question]
    root: Thought = {
        **graph.thoughts[graph.root],
        "observed": [OBSERVATION + in_one_step(one["text"], steps) for one in listed],
        "sources": [source for one in listed for source in one["sources"]],
    }
    written = Outcome(Writes({graph.root: root}, {}), [graph.root], no_usage())
    return written.logged(RETRIEVE, [graph.root])


def shown_by(graph: ThoughtGraph, id: str) -> list[Cited]:
    """All that the children of an answered thought show or will show."""
    return _listed(graph, child_id(id, 0))


def _listed(graph: ThoughtGraph, id: str) -> list[Cited]:
    """What a query found, by its first observation."""
    first = graph.thoughts[id]
    alone = Cited(text=first["text"].removeprefix(OBSERVATION), sources=first.get("sources", []))
    return first.get("passages", [alone])


def _observed(
    graph: ThoughtGraph, place: Place, listed: list[Cited], query: str, setting: Setting
) -> Thought:
    cited = listed[place[1]]
    thought = observation(graph, place, cited["text"], setting, RETRIEVE)
    if cited["sources"]:
        thought["sources"] = cited["sources"]
    if place[1] == 0:
        thought["query"] = query
        thought.update({"passages": listed} if len(listed) > 1 else {})
    return thought


def _found(
    graph: ThoughtGraph, asked: Mapping[str, str], retrieval: Retrieval
) -> Asking[dict[str, list[Cited]]]:
    """What each query comes to, from the graph where the same was asked before."""
    queries = dict.fromkeys(asked.values())
    known = {query: _listed(graph, first[0]) for query in queries if (first := graph.find(asked_for(query)))}
    k = retrieval.alternatives * retrieval.passages
    missing = [query for query in queries if query not in known]
    return known | (yield from _search(missing, retrieval, k, retrieval.passages))


def _search(
    queries: Sequence[str], retrieval: Retrieval, k: int, size: int
) -> Asking[dict[str, list[Cited]]]:
    """What the retriever has to say to each query: passages, or one text that tells of a failure."""
    asked = [query for query in queries if query]
    empty = [Cited(text=f"{ERROR}the query is empty", sources=[])]
    found: dict[str, list[Cited]] = {query: empty for query in queries if not query}
    batches = [asked] if asked else []
    while batches:
        searches = [
            Search(retrieval.finds, [query[:LONGEST_QUERY] for query in batch], k) for batch in batches
        ]
        said = yield from ask_tools([(search, "") for search in searches], retrieval.limits)
        again: list[list[str]] = []
        for batch, search, text in zip(batches, searches, said, strict=True):
            if not text.startswith(ERROR):
                listed = [retrieval.cited(one, size) for one in search.found]
                found.update(zip(batch, listed, strict=True))
            elif len(batch) > 1:
                again += [[query] for query in batch]
            else:
                found[batch[0]] = [Cited(text=text, sources=[])]
        batches = again
    return found
