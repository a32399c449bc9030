"""Tree of Thoughts: search a tree of steps level by level, or depth first with backtracking.

Source: Yao et al., arXiv 2305.10601, Algorithm 1 (ToT-BFS) and Algorithm 2 (ToT-DFS); the authors' code for
what those leave open.
"""

from collections.abc import Sequence
from typing import Literal

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.graphs.shared.beams import best_answer, ranking, reached
from rlm_agent.operators.backtrack import backtrack
from rlm_agent.operators.prune import beyond_top, close, duplicates, exhausted
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.thoughts import ThoughtGraph, Writes


@takes_context
def create_tree_of_thoughts(
    model: Model = "mini",
    *,
    search: Literal["bfs", "dfs"] = "bfs",
    proposals: int = 5,
    breadth: int = 5,
    threshold: float | None = None,
    rounds: int | None = None,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that searches a tree of steps, breadth first ("bfs") or depth first ("dfs").

    proposals: how many steps are sampled under a thought (k in the paper).
    breadth: how many open thoughts are kept, of a level (b in the paper, 5 in the Game of 24) or, depth
        first, of the children of one thought (3 in the authors' code). Equal siblings are merged first;
        finished chains take no place.
    threshold: depth first, a step or an answer of a lower value is pruned (v_th); None prunes nothing.
    rounds: bound on the levels (T) or, depth first, on the expanded thoughts (100 in the paper); None
        leaves it to the budget.

    Thoughts are ranked by their value, or, without a value model, by the likelihood of their chain. Breadth
    first, the search ends when no thought is open, and the best finished chain holds the answer. Depth
    first, the best child is visited first, and where a subtree is exhausted the search goes back to the next
    best sibling upward. It ends at the first answer whose turn comes and that is neither worth 0 nor
    pruned, or, with a verifier, at the first that it accepts, be it its turn or not.

    Deviations from the paper: chains end where they end, not all at depth T. A value equal to the threshold
    is kept. Proposing several steps in one reply is not offered; votes and the judge that says sure, likely
    or impossible are values (`VoteValue`, and `JudgeValue` with `SURE`, in `models.judges`). `common` is
    documented at `Common`. Raises `InputError` for a threshold without a value model or breadth first.
    """
    _check(search, proposals, breadth, threshold, rounds, valued=common.get("value") is not None)
    score = ranking(common)

    def missing(graph: ThoughtGraph, id: str) -> int:
        """How many children a thought is short of; after a batch that the budget cut, those that fell off."""
        stats = graph.stats[id]
        return 0 if stats["closed"] else max(0, proposals - stats["children"])

    def expanded(graph: ThoughtGraph, id: str) -> bool:
        return graph.stats[id]["children"] >= proposals

    def worthless(graph: ThoughtGraph, id: str) -> bool:
        value = graph.stats[id]["value"]
        return value is not None and threshold is not None and value < threshold

    def recorded(graph: ThoughtGraph, id: str) -> bool:
        """Whether Algorithm 2 puts out a thought when its turn comes."""
        final = graph.thoughts[id]["kind"] == "final" and not graph.dropped(id)
        return final and graph.stats[id]["value"] != 0.0 and not worthless(graph, id)

    def next_level(state: Search) -> Plan:
        graph = state.graph
        level = reached(state) or [graph.root]
        return [(id, count) for id in level if (count := missing(graph, id))]

    def next_thought(state: Search) -> Plan:
        first_counts = state.setting.verifier is None

        def waits(graph: ThoughtGraph, id: str) -> bool:
            return missing(graph, id) > 0 or (first_counts and recorded(graph, id))

        # Below an exhausted thought nothing is missing, though there may be an answer whose turn has come.
        id = backtrack(state.graph, score, waits, None if first_counts else is_open)
        count = 0 if id is None else missing(state.graph, id)
        return [(id, count)] if id is not None and count else []

    def prune(state: Search) -> Writes:
        graph, fresh = state.graph, state.run["fresh"]
        doomed = duplicates(graph, fresh) + [id for id in fresh if worthless(graph, id)]
        writes = close(graph, doomed)
        grown = graph.updated(writes)
        writes = writes.followed_by(close(grown, beyond_top(grown, fresh, score, breadth)))
        return writes.followed_by(exhausted(graph.updated(writes), fresh, expanded))

    def first_recorded(graph: ThoughtGraph, ids: Sequence[str]) -> str | None:
        return backtrack(graph, score, recorded) or best_answer(graph, ids)

    select, answer = (next_level, best_answer) if search == "bfs" else (next_thought, first_recorded)
    rules = Rules(select=select, prune=prune, answer=answer, rounds=rounds)
    return build("tree_of_thoughts", model, rules, common)


def is_open(graph: ThoughtGraph, id: str) -> bool:
    """Whether a thought may be selected."""
    return not graph.stats[id]["closed"]


def _check(
    search: str, proposals: int, breadth: int, threshold: float | None, rounds: int | None, *, valued: bool
) -> None:
    if search not in ("bfs", "dfs"):
        raise UnknownNameError(f"there is no search {search!r}; choose one of bfs, dfs")
    if proposals < 1 or breadth < 1 or (rounds is not None and rounds < 1):
        raise InputError(
            f"proposals={proposals}, breadth={breadth}, rounds={rounds} search nothing; give at least 1"
        )
    if threshold is None:
        return
    if search == "bfs":
        raise InputError(f"threshold={threshold} belongs to search='dfs'; leave it out, or give a breadth")
    if not valued:
        raise InputError(f"threshold={threshold} needs values to compare with; give a value model")
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold={threshold} is not a value; give a number in [0, 1]")
