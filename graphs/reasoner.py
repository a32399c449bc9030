"""Every strategy by name."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.store.base import BaseStore

from rlm_agent.graphs.armap import create_armap
from rlm_agent.graphs.beam_search import create_beam_search
from rlm_agent.graphs.best_first import create_best_first
from rlm_agent.graphs.best_of_n import create_best_of_n
from rlm_agent.graphs.chain import create_chain
from rlm_agent.graphs.coat import create_coat
from rlm_agent.graphs.dvts import create_dvts
from rlm_agent.graphs.graph_of_thoughts import create_graph_of_thoughts
from rlm_agent.graphs.journey import create_journey
from rlm_agent.graphs.lats import create_lats
from rlm_agent.graphs.llama_berry import create_llama_berry
from rlm_agent.graphs.long_chain import create_long_chain
from rlm_agent.graphs.machine.common import Common, Judge, Model
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.mcts import create_mcts
from rlm_agent.graphs.particle_filtering import create_particle_filtering
from rlm_agent.graphs.react import create_react
from rlm_agent.graphs.rest_mcts import create_rest_mcts
from rlm_agent.graphs.rstar import create_rstar
from rlm_agent.graphs.self_consistency import create_self_consistency
from rlm_agent.graphs.tree_of_thoughts import create_tree_of_thoughts
from rlm_agent.structure.budget import Budget
from rlm_agent.structure.errors import UnknownNameError
from rlm_agent.structure.steps import Steps, Verifier

STRATEGIES: dict[str, Callable[..., Reasoner]] = {
    "chain": create_chain,
    "self_consistency": create_self_consistency,
    "best_of_n": create_best_of_n,
    "beam_search": create_beam_search,
    "dvts": create_dvts,
    "particle_filtering": create_particle_filtering,
    "tree_of_thoughts": create_tree_of_thoughts,
    "best_first": create_best_first,
    "mcts": create_mcts,
    "graph_of_thoughts": create_graph_of_thoughts,
    "rest_mcts": create_rest_mcts,
    "llama_berry": create_llama_berry,
    "rstar": create_rstar,
    "journey": create_journey,
    "long_chain": create_long_chain,
    "coat": create_coat,
    "armap": create_armap,
    "react": create_react,
    "lats": create_lats,
}


def create_reasoner(
    strategy: str,
    model: Model = "mini",
    *,
    value: Judge | None = None,
    verifier: Verifier | str | None = None,
    steps: Steps | str | None = None,
    tools: Any = None,
    retriever: Any = None,
    system_prompt: str | None = None,
    budget: Budget | None = None,
    seed: int | None = None,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
    store: BaseStore | None = None,
    name: str | None = None,
    **parameters: Any,
) -> Reasoner:
    """A compiled graph over `messages` that answers the last human message by a strategy.

    strategy: a name in `STRATEGIES`; its own parameters, documented at its `create_*`, follow as
    keywords. model: `"mini"`, the path of a `.gguf`, a `Policy`, or a chat model of LangChain, itself or as
    `"provider:model"`; with `"context"`, each run brings its own in a `ReasonerContext`. The other keywords
    are documented at `Common`. The graph puts out `messages`, `answer` and `usage`; the tree of thoughts is
    within reach of `get_state`. Raises `UnknownNameError` for a strategy, model or parameter that does not
    exist, and the model's own errors where it cannot be loaded.
    """
    create = get_strategy(strategy)
    _check_parameters(strategy, create, parameters)
    return create(
        model,
        value=value,
        verifier=verifier,
        steps=steps,
        tools=tools,
        retriever=retriever,
        system_prompt=system_prompt,
        budget=budget,
        seed=seed,
        checkpointer=checkpointer,
        store=store,
        name=name,
        **parameters,
    )


def get_strategy(name: str) -> Callable[..., Reasoner]:
    """The `create_*` of a strategy; `UnknownNameError` lists those there are."""
    if name not in STRATEGIES:
        raise UnknownNameError(f"there is no strategy {name!r}; choose one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def parameters_of(create: Callable[..., Reasoner]) -> dict[str, Any]:
    """The parameters that a strategy has beside the common ones, and their defaults."""
    signature = inspect.signature(create).parameters.values()
    return {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}


def _check_parameters(strategy: str, create: Callable[..., Reasoner], given: dict[str, Any]) -> None:
    known = [*parameters_of(create), *Common.__annotations__]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known)}"
            raise UnknownNameError(f"the strategy {strategy!r} has no parameter {name!r}; {hint}")


def memory_saver() -> BaseCheckpointSaver[Any]:
    """A checkpointer that lives as long as this process: it brings the tree within reach of `get_state`."""
    from langgraph.checkpoint.memory import InMemorySaver

    return InMemorySaver()
