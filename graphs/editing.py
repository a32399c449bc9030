"""Edits of a search that is paused or has ended, from outside: forks of its thread, in LangGraph's way."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateSnapshot

from rlm_agent.graphs.machine.graph import nodes_of
from rlm_agent.graphs.machine.operations import OperationNodes
from rlm_agent.graphs.machine.reviewing import REVIEW, REVIEW_ANSWER, edited
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.structure.edits import Edit
from rlm_agent.structure.errors import InputError

_SELECT = "select"


def edit(reasoner: Reasoner, config: RunnableConfig, edits: Sequence[Edit]) -> RunnableConfig:
    """Edit the search of a thread, all of `edits` or nothing; the new checkpoint's config.

    config: names the thread, or one of its checkpoints, which is forked. edits: see `structure.edits`.

    `reasoner.invoke(None, config)` goes on from there: what is new is evaluated and taken in as the strategy
    does with any thought, and the next round is planned anew. Raises `EditError` with a reason for each edit
    that cannot be done, and `InputError` in the middle of a round, for a thread without a search, and for a
    graph of operations, whose thoughts have places of their own.
    """
    command = _command(reasoner, reasoner.get_state(config), edits)
    return reasoner.update_state(config, command, as_node=_SELECT)


async def aedit(reasoner: Reasoner, config: RunnableConfig, edits: Sequence[Edit]) -> RunnableConfig:
    """`edit` for savers that are asynchronous."""
    command = _command(reasoner, await reasoner.aget_state(config), edits)
    return await reasoner.aupdate_state(config, command, as_node=_SELECT)


def _command(reasoner: Reasoner, found: StateSnapshot, edits: Sequence[Mapping[str, Any]]) -> Any:
    nodes, state = nodes_of(reasoner), found.values
    if isinstance(nodes, OperationNodes):
        raise InputError("a graph of operations is not edited; edit what its operations are given")
    if "run" not in state:
        raise InputError("this thread holds no search yet; ask it a question first")
    expand = nodes.rules.expand_as
    if not set(found.next) <= {REVIEW, REVIEW_ANSWER, _SELECT, expand, "conclude"}:
        raise InputError(
            f"the search is in the middle of a round, before {found.next[0]}; let it go on first"
        )
    planned = bool({REVIEW, expand} & set(found.next))
    search = nodes.search(state)
    _, update = edited(nodes, search, state["usage"], list(edits), planned=planned)
    goto = "evaluate" if update["run"]["fresh"] else "conclude" if update["run"]["stopped"] else _SELECT
    return Command(update=update, goto=goto)
