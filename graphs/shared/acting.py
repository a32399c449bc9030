"""How a strategy that acts is given its tools."""

from collections.abc import Sequence

from rlm_agent.graphs.machine.common import Common
from rlm_agent.models.patterns import fill
from rlm_agent.models.prompts import prompts_of
from rlm_agent.models.protocols import Policy
from rlm_agent.operators.act import acting
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.steps import Steps
from rlm_agent.tasks.answers import free_answer
from rlm_agent.tasks.registry import get_task
from rlm_agent.tools.toolbox import Toolbox


def equip(strategy: str, policy: Policy, common: Common) -> tuple[str, Toolbox | None]:
    """The tools among the keywords, taken out, and what the strategy is called with them in a stored run.

    The steps and the system prompt among the keywords become those of one who may act. Without tools,
    nothing changes. Raises `InputError` for a policy that has not learned to act, for steps that a checker
    reads or that end at no delimiter, and for what is no tool.
    """
    given = common.pop("tools", None)
    if not given:
        return strategy, None
    if not isinstance(given, Toolbox | Sequence):
        raise InputError(f"{type(given).__name__} is no list of tools; give a list or a Toolbox")
    told = prompts_of(policy).require("act")
    tools = given if isinstance(given, Toolbox) else Toolbox(given)
    named = common.get("steps") or policy.task
    steps = get_task(named).steps if isinstance(named, str) else named or Steps(answer=free_answer)
    if steps.check is not None or not steps.granularity.delimiter:
        raise InputError(
            "a call of a tool is a step that no checker knows and that ends at a delimiter; "
            "leave steps out, or give steps without a check, by line or paragraph"
        )
    common["steps"] = acting(steps)
    asked = common.get("system_prompt") or steps.granularity.instruction
    common["system_prompt"] = f"{asked}\n\n{fill(told, tools=tools.described)}"
    common["name"] = common.get("name") or strategy
    return f"{strategy} with the tools {tools.identity}", tools
