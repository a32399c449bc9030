"""Self-consistency: independent chains vote on the answer (Wang et al., arXiv 2203.11171)."""

from typing_extensions import Unpack

from rlm_agent.graphs.chains import sample_chains
from rlm_agent.graphs.common import Common, Model, build
from rlm_agent.graphs.rules import Reasoner, Rules
from rlm_agent.operators.select import vote
from rlm_agent.tasks.answers import normalise


def create_self_consistency(
    model: Model = "mini", *, n: int = 40, parallel: int | None = None, **common: Unpack[Common]
) -> Reasoner:
    """A reasoner that samples `n` chains (the paper: 40), `parallel` at a time, and lets them vote.

    Answers are normalised before they are compared; ties go to the first seen. A verifier has no vote, but
    ends the search where it accepts an answer, unless `stop_when_verified=False`. Deviation: the default
    temperature is 1, for policies with good coverage. `common` is documented at `Common`.
    """
    rules = Rules(
        select=sample_chains(n, parallel),
        answer=lambda graph, ids: vote(graph, ids, normalise),
    )
    return build("self_consistency", model, rules, common)
