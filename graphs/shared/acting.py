"""How a strategy that acts is given its tools, and how somebody approves of what they are called with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from langgraph.types import interrupt

from rlm_agent.graphs.machine.common import Common
from rlm_agent.models.calls import grammar_of, syntax_of
from rlm_agent.models.patterns import fill
from rlm_agent.models.prompts import prompts_of
from rlm_agent.models.protocols import Policy
from rlm_agent.operators.rules.observations import acting, with_delimiter
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.steps import Steps
from rlm_agent.tasks.answers import free_answer
from rlm_agent.tasks.registry import get_task
from rlm_agent.tools.approval import Gate, Pending
from rlm_agent.tools.protocols import Tool
from rlm_agent.tools.toolbox import Toolbox

Approve = Literal["never", "effects", "all"]
"""Which calls wait for an approval: none, those of tools with effects, all."""


def equip(strategy: str, policy: Policy, common: Common) -> tuple[str, Toolbox | None]:
    """The tools among the keywords, taken out, and what the strategy is called with them in a stored run.

    The steps, the system prompt and the grammar among the keywords become those of one who may act, in the
    syntax of the toolbox or else of the policy. Without tools, nothing changes. Raises `InputError` for a
    policy that has not learned to act, for steps that end at no delimiter, and for what is no tool.
    """
    gate = gate_of(common.pop("approve", "never"))
    given = common.pop("tools", None)
    if not given:
        return strategy, None
    if not isinstance(given, Toolbox | Sequence):
        raise InputError(f"{type(given).__name__} is no list of tools; give a list or a Toolbox")
    told = prompts_of(policy).require("act")
    tools = given if isinstance(given, Toolbox) else Toolbox(given)
    tools = replace(tools, syntax=tools.syntax or syntax_of(policy), gate=gate or tools.gate)
    steps = steps_of(policy, common)
    common["steps"] = acting(with_delimiter(steps), tools)
    asked = common.get("system_prompt") or steps.granularity.instruction
    pattern = tools.written.told or told
    common["system_prompt"] = f"{asked}\n\n{fill(pattern, tools=tools.described)}"
    common["name"] = common.get("name") or strategy
    grammar = grammar_of(policy, list(tools.schemas.items()), tools.written)
    if grammar is not None:
        common.setdefault("grammar", grammar)
    return f"{strategy} with the tools {tools.identity}", tools


def steps_of(policy: Policy, common: Common) -> Steps:
    """The steps that a strategy is given, or those of its policy's task."""
    named = common.get("steps") or policy.task
    return get_task(named).steps if isinstance(named, str) else named or Steps(answer=free_answer)


def gate_of(approve: str) -> Gate | None:
    """Who asks for approvals; `UnknownNameError` for a name that is none of `Approve`."""
    if approve not in get_args(Approve):
        names = ", ".join(get_args(Approve))
        raise UnknownNameError(f"nobody approves {approve!r}; choose one of {names}")
    return None if approve == "never" else Interrupting(all=approve == "all")


@dataclass(frozen=True, slots=True)
class Interrupting:
    """Lets a run stop, by LangGraph's `interrupt`, until somebody approves: tools with effects, or `all`.

    The interrupt's value is `{"approve": [{"id", "thought", "tool", "argument"}, …]}`. The run goes on with
    `Command(resume=…)`: True approves all calls and False none; a mapping from ids to True, False or the
    reason for a no decides each, and what it leaves out is not approved. An id holds for that very call
    alone. A graph without a checkpointer cannot stop.
    """

    all: bool = False

    @property
    def identity(self) -> str:
        """See `Gate`."""
        return f"approve {'all' if self.all else 'effects'}"

    def wants(self, tool: Tool) -> bool:
        """See `Gate`."""
        return self.all or not tool.idempotent

    def decide(self, calls: Sequence[Pending]) -> list[str | None]:
        """See `Gate`."""
        listed = [
            {"id": one.id, "thought": one.thought, "tool": one.tool, "argument": one.argument}
            for one in calls
        ]
        reply = interrupt({"approve": listed})
        return [_decision(reply, one.id) for one in calls]


def _decision(reply: Any, id: str) -> str | None:
    """None for a yes, else the reason for a no, which may be empty."""
    said = reply.get(id, False) if isinstance(reply, Mapping) else reply
    if said is True:
        return None
    return said if isinstance(said, str) else ""
