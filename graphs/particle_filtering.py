"""Particle filtering over steps: move all particles, weigh them, resample, until all have finished.

Source: Puri et al., arXiv 2502.01618, as its authors' library its_hub has it.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search
from rlm_agent.graphs.shared.beams import begin, hopeless
from rlm_agent.operators.rules.resample import draw_points, logit, moved, population, resample, settle
from rlm_agent.operators.select import best, own_value
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import ThoughtGraph, Writes


@takes_context
def create_particle_filtering(
    model: Model = "mini",
    *,
    particles: int = 8,
    resample_finished: bool = True,
    resampling_temperature: float = 1.0,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that keeps a population of chains and draws it anew after every step.

    particles: how many chains there are; the root's `Stats.population` says where they stand.
    resample_finished: finished particles take part in the resampling and can die (its_hub, and
        `resample_inactive` in the paper's code); False keeps them and resamples the others alone.
    resampling_temperature: divides the log-weights; 1 in its_hub. `temperature` is the policy's.

    In each round every unfinished particle writes one step. Its log-weight is the logit of the value of that
    step, clipped as in `operators.rules.resample`, and the next population is drawn from the softmax of all
    log-weights. A step without a value counts as one of value 0. A thought that has lost all its
    particles is closed. When all particles have finished, the search ends; the one of the highest
    value holds the answer, the first of several, or, where none is left, the best finished chain that died.

    Deviations: a failed step, and an answer that the verifier rejects, weigh nothing at all. A population
    that has died without an answer, or with none that the verifier accepts, begins anew at the root
    until the budget is spent. A particle that the budget keeps from moving stays where it is.
    `common` is documented at `Common`. Raises `InputError` without a value model.
    """
    _check(particles, resampling_temperature, common)

    def select(search: Search) -> Plan:
        graph = search.graph
        unfinished = [(id, count) for id, count in population(graph).items() if not _ended(graph, id)]
        return unfinished or begin(search, particles)

    def prune(search: Search) -> Writes:
        """Resample; prune is the skeleton's name for what decides who goes on."""
        graph, run = search.graph, search.run
        counts = moved(graph, run["fresh"])
        log_weights = {id: _log_weight(search, id) for id in counts}
        kept = Counter[str]() if resample_finished else _finished(graph, counts, log_weights)
        seed, missing = search.setting.seed, particles - kept.total()
        points = draw_points(missing, seed, graph.root, "resample", run["round"])
        drawn = resample(counts - kept, log_weights, points, resampling_temperature)
        return settle(graph, kept + drawn, [*population(graph), *counts])

    return build("particle_filtering", model, Rules(select=select, prune=prune, answer=_answer), common)


def _log_weight(search: Search, id: str) -> float:
    """The logarithm of a particle's weight, up to a constant that all share."""
    return -math.inf if hopeless(search, id) else logit(own_value(search.graph, id))


def _finished(
    graph: ThoughtGraph, counts: Mapping[str, int], log_weights: Mapping[str, float]
) -> Counter[str]:
    """Those of a population that have come to an answer which has any weight."""
    answers = [id for id in counts if _ended(graph, id) and log_weights[id] > -math.inf]
    return Counter({id: counts[id] for id in answers})


def _ended(graph: ThoughtGraph, id: str) -> bool:
    return graph.thoughts[id]["kind"] != "step"


def _answer(graph: ThoughtGraph, ids: Sequence[str]) -> str | None:
    """The best of the finished particles, or, where none lives, of the finished chains that died."""
    living = population(graph)
    return best(graph, [id for id in ids if id in living]) or best(graph, ids)


def _check(particles: int, resampling_temperature: float, common: Common) -> None:
    if particles < 1:
        raise InputError(f"particles={particles} is no population; give at least 1")
    if not 0 < resampling_temperature < math.inf:
        raise InputError(
            f"resampling_temperature={resampling_temperature} divides nothing; give a number above 0"
        )
    if common.get("value") is None:
        raise InputError(
            "particle filtering weighs its particles by a value model; give one, for instance value='head'"
        )
