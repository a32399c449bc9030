"""A pre-built agent that reasons before it answers: `create_agent`, with a `ReasoningMiddleware` in front."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import SystemMessage
from langchain_core.tools import BaseTool
from langgraph.cache.base import BaseCache
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.store.base import BaseStore

from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.ways.middleware import ReasoningMiddleware, Use
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.langchain.chat_gguf import ChatGGUF
from rlm_agent.models.resolve import is_provided


def create_reasoning_agent(
    model: str | Path | GGUFPolicy | BaseChatModel,
    tools: Sequence[BaseTool | Callable[..., Any] | dict[str, Any]] | None = None,
    *,
    reasoner: Reasoner | str = "self_consistency",
    use: Use = "hint",
    parameters: Mapping[str, Any] | None = None,
    system_prompt: str | SystemMessage | None = None,
    middleware: Sequence[Any] = (),
    response_format: Any = None,
    state_schema: Any = None,
    context_schema: Any = None,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
    store: BaseStore | None = None,
    interrupt_before: list[str] | None = None,
    interrupt_after: list[str] | None = None,
    debug: bool = False,
    name: str | None = None,
    cache: BaseCache[Any] | None = None,
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """An agent over `messages` that calls tools, and reasons about each question first.

    model: `"mini"`, the path of a `.gguf` or a `GGUFPolicy`, which run in this process, or a chat model,
        itself or as `"provider:model"`.
    reasoner, use, parameters: see `ReasoningMiddleware`; a strategy reasons with the agent's own model.

    All other keywords are those of LangChain's `create_agent`; `middleware` stands behind the reasoning.
    Raises what `ReasoningMiddleware` and `ChatGGUF` raise, and `MissingExtraError` without langchain.
    """
    reasoning = ReasoningMiddleware(reasoner, use=use, **(parameters or {}))
    from langchain.agents import create_agent

    given = isinstance(model, BaseChatModel) or (isinstance(model, str) and is_provided(model))
    create: Callable[..., CompiledStateGraph[Any, Any, Any, Any]] = create_agent
    return create(
        model if given else ChatGGUF(model),  # type: ignore[arg-type]
        tools,
        system_prompt=system_prompt,
        middleware=[reasoning, *middleware],
        response_format=response_format,
        state_schema=state_schema,
        context_schema=context_schema,
        checkpointer=checkpointer,
        store=store,
        interrupt_before=interrupt_before,
        interrupt_after=interrupt_after,
        debug=debug,
        name=name,
        cache=cache,
    )
