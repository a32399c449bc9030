"""O1 Journey: search a tree, then tell the way to the answer, wrong turns included, as one long chain.

Source: Journey Learning (Qin et al., arXiv 2410.18982): a beam-pruned tree of steps, walked depth first with
a limited number of trials on wrong branches, and a model that makes the draft read well.
"""

from collections.abc import Sequence

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules, Search, Told
from rlm_agent.graphs.shared.beams import begin, best_answer, leaves, ranking
from rlm_agent.models.drive import Asking
from rlm_agent.operators.prune import beyond_top, close
from rlm_agent.operators.restructure import RESTRUCTURE, Visit, in_words, linearise, merge, smooth
from rlm_agent.operators.setting import Outcome, nothing, only
from rlm_agent.operators.writing import Plan
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import ThoughtGraph, Writes
from rlm_agent.tasks.answers import normalise


@takes_context
def create_journey(
    model: Model = "mini",
    *,
    width: int = 4,
    expansions: int = 4,
    wrong: int = 1,
    smoothed: bool = False,
    **common: Unpack[Common],
) -> Reasoner:
    """A reasoner that searches by a beam and whose reasoning is the journey, not the shortest way.

    width, expansions: as of `beam_search`: how many unfinished chains are kept, and how many new steps each
        gets. wrong: how many wrong branches the journey tries at each step of the right path.
    smoothed: let the policy tell the journey again as one piece, from what the budget has left. It is left
        as it is where nothing is left or the policy comes to no end, and by a specialist such as `mini`,
        which has not learned to.

    The journey is the reply's `reasoning_content`; the answer is that of the best finished chain. Chains are
    ranked by their last value or, without a value model, by their likelihood. A branch is wrong where it
    leads to no answer that is right: that the verifier accepts or, where it accepts none and where there is
    none, that equals the best chain's. Deviations: the paper's numbers for `width`, `expansions` and `wrong`
    are not known to us. A wrong branch is one line down to its end; what was wrong with it is said in fixed
    words unless a critique is there. `common` is documented at `Common`.
    """
    if width < 1 or expansions < 1 or wrong < 0:
        raise InputError(
            f"width={width}, expansions={expansions}, wrong={wrong} make no journey; give at least 1, 1 and 0"
        )
    score = ranking(common)

    def select(search: Search) -> Plan:
        return [(id, expansions) for id in leaves(search)] or begin(search, width * expansions)

    def prune(search: Search) -> Writes:
        fresh = search.run["fresh"]
        merged = merge(search.graph, fresh)
        grown = search.graph.updated(merged)
        return merged.followed_by(close(grown, beyond_top(grown, fresh, score, width)))

    def narrate(search: Search, best: str) -> Asking[Told]:
        graph = search.graph
        visits = linearise(graph, best, right_ends(search, best), wrong, score)
        outcome = only(Writes({}, {})).logged(RESTRUCTURE, [visit.thought for visit in visits])
        lines = in_words(graph, visits)
        if not smoothed or search.setting.prompts.smooth is None:
            return Told(lines, outcome)
        text, asked = yield from _smoothed(search, best, lines, _length(graph, visits))
        return Told(lines if text is None else text.split("\n"), outcome.followed_by(asked))

    rules = Rules(select=select, prune=prune, answer=best_told, narrate=narrate)
    return build("journey", model, rules, common)


def right_ends(search: Search, best: str) -> list[str]:
    """The finished chains that are as right as the best one: accepted as it is, or of the same answer."""
    graph, finals = search.graph, search.graph.finals()
    if search.setting.verifier is not None and graph.stats[best]["value"] == 1.0:
        return [id for id in finals if graph.stats[id]["value"] == 1.0]
    answer = normalise(graph.thoughts[best]["answer"])
    return [id for id in finals if normalise(graph.thoughts[id]["answer"]) == answer]


def best_told(graph: ThoughtGraph, ids: Sequence[str]) -> str | None:
    """The best finished chain; a journey told again is none."""
    return best_answer(graph, [id for id in ids if graph.thoughts[id].get("operator") != RESTRUCTURE])


def _smoothed(
    search: Search, best: str, lines: Sequence[str], longest: int
) -> Asking[tuple[str | None, Outcome]]:
    """The journey as the policy tells it again, or told it before; None where it does not."""
    graph = search.graph
    for id in graph.children(best):
        if graph.thoughts[id]["kind"] == "final":
            return graph.thoughts[id]["text"], nothing()
    outcome = yield from smooth(graph, best, lines, search.setting, search.allowance, longest)
    text = next((outcome.writes.thoughts[id]["text"] for id in outcome.outputs), None)
    return text, outcome


def _length(graph: ThoughtGraph, visits: Sequence[Visit]) -> int:
    """How many tokens a journey may take when it is told again: twice what its steps took."""
    return 2 * sum(graph.thoughts[visit.thought]["tokens"] for visit in visits)
