"""The select rule that best-of-N and self-consistency share: independent chains side by side."""

from collections.abc import Callable

from rlm_agent.graphs.machine.rules import Search
from rlm_agent.graphs.shared.beams import leaves
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.errors import InputError


def sample_chains(
    n: int, parallel: int | None, enough: Callable[[Search, int], bool] | None = None
) -> Callable[[Search], Plan]:
    """Begin `parallel` chains at a time, carry them to their ends, begin the next, until `n` have begun.

    `enough`, asked after each round with the number of chains that are still to end, ends it early.
    """
    if n < 1 or (parallel is not None and parallel < 1):
        raise InputError(f"n={n}, parallel={parallel} samples no chain; both must be at least 1")

    def select(search: Search) -> Plan:
        graph = search.graph
        unfinished = leaves(search)
        begun = graph.stats[graph.root]["children"]
        if enough is not None and enough(search, n - begun + len(unfinished)):
            return []
        if unfinished or begun >= n:
            return [(id, 1) for id in unfinished]
        return [(graph.root, min(parallel or n, n - begun))]

    return select
