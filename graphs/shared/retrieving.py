"""How a strategy that acts is given its tools and its retriever."""

from collections.abc import Sequence
from dataclasses import replace

from rlm_agent.graphs.machine.common import Common
from rlm_agent.graphs.shared.acting import equip, steps_of
from rlm_agent.models.prompts import prompts_of
from rlm_agent.models.protocols import Policy
from rlm_agent.models.retrieval import Retrieval, When, as_retrieval
from rlm_agent.operators.rules.means import Means
from rlm_agent.operators.rules.observations import acting, with_delimiter
from rlm_agent.structure.errors import InputError
from rlm_agent.tools.toolbox import Toolbox


def furnish(
    strategy: str,
    policy: Policy,
    common: Common,
    *,
    committed: bool = False,
    alternatives: int | None = None,
) -> tuple[str, Means]:
    """The means among the keywords, taken out, and what the strategy is called with them in a stored run.

    Where the policy asks the retriever by an action, the search is one of the tools that it is told of. A
    retriever that is asked once stays among the keywords, for `build`. `committed` is as in `Means`;
    `alternatives` are as many as the strategy can make use of. Raises `InputError` as `equip` does, and for
    what is no retriever.
    """
    retrieval = as_retrieval(common.get("retriever"))
    if retrieval is None:
        strategy, tools = equip(strategy, policy, common)
        return strategy, Means(tools, committed=committed)
    retrieval = replace(
        retrieval,
        when=retrieval.when or default_when(policy),
        alternatives=alternatives or retrieval.alternatives,
    )
    if retrieval.when == "once":
        common["retriever"] = retrieval
        strategy, tools = equip(strategy, policy, common)
        return strategy, Means(tools, committed=committed)
    common.pop("retriever", None)
    common["name"] = common.get("name") or strategy
    if retrieval.when == "asked":
        common["tools"] = with_search(common.get("tools"), retrieval)
    elif not common.get("tools"):
        common["steps"] = acting(with_delimiter(steps_of(policy, common)))
    strategy, tools = equip(strategy, policy, common)
    return f"{strategy}, retrieving {retrieval.identity}", Means(tools, retrieval, committed)


def default_when(policy: Policy) -> When:
    """A policy that has learned to act is left to ask."""
    return "once" if prompts_of(policy).act is None else "asked"


def with_search(tools: object, retrieval: Retrieval) -> Toolbox:
    """The box of these tools, if any, and of the search."""
    if isinstance(tools, Toolbox):
        return replace(tools, tools=[*tools.tools, retrieval])
    if tools is None or (isinstance(tools, Sequence) and not isinstance(tools, str)):
        return Toolbox([*(tools or ()), retrieval])
    raise InputError(f"{type(tools).__name__} is no list of tools; give a list or a Toolbox")
