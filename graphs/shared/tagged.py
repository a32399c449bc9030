"""The steps of strategies that write a chain of action-thought, whose lines open with meta-actions."""

from rlm_agent.graphs.machine.common import Common
from rlm_agent.models.protocols import Policy
from rlm_agent.structure.steps import Steps
from rlm_agent.tasks.registry import TASKS, get_task


def tagged_steps(policy: Policy, common: Common) -> Steps | str | None:
    """What `common` gives as steps, or the policy's task has; but the tagged ones where a task's are given.

    None for a policy without a task and no steps.
    """
    given = common.get("steps") or policy.task
    if isinstance(given, str):
        return get_task(given).coat or given
    return next((task.coat for task in TASKS.values() if task.steps is given and task.coat), given)
