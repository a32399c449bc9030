"""ReAct: one chain of thoughts, of which some are actions (Yao et al., arXiv 2210.03629)."""

from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, build
from rlm_agent.graphs.machine.graph import takes_context
from rlm_agent.graphs.machine.rules import Reasoner, Rules
from rlm_agent.graphs.shared.beams import onward
from rlm_agent.graphs.shared.retrieving import furnish
from rlm_agent.models.resolve import load_policy
from rlm_agent.operators.select import best


@takes_context
def create_react(model: Model = "mini", **common: Unpack[Common]) -> Reasoner:
    """A reasoner that writes one chain, calls `tools` or asks a `retriever` on its way, and answers.

    A step that is `Action: name[argument]`, or ends in `<<48/2=` for the calculator, is answered by an
    observation, which is the next step of the chain; `Finish[answer]` ends it. The chain is the committed
    path, so that tools with effects are called as well. Greedy unless a `temperature` is given; observations
    count among the `max_steps` of the steps.

    Without tools it is the chain, and so it is with `mini`, which knows no tools: it refuses to be given any.
    Deviations: the policy is told of tools by a description and no worked examples, and a thought need not
    come before each action. An observation that the policy makes up ends the chain. `common` is documented at
    `Common`. Raises `InputError` as `graphs.shared.retrieving.furnish` does.
    """
    policy = load_policy(model)
    strategy, means = furnish("react", policy, common, committed=True, alternatives=1)
    rules = Rules(select=onward, expand=means.expand, answer=best, traced=means.traced)
    return build(strategy, policy, rules, common, temperature=0.0)
