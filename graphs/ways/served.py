"""Strategies for LangGraph Server and Studio, as `langgraph.json` names them, made when first asked for.

The server brings the checkpointer and the store. `RLM_AGENT_MODEL` names the model, by default `mini`; a run
or an assistant may choose among the embedded ones in its context: `{"policy": "mini-tools"}`.
"""

import os
from functools import cache

from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.reasoner import create_reasoner


@cache
def _served(strategy: str) -> Reasoner:
    return create_reasoner(strategy, os.environ.get("RLM_AGENT_MODEL") or "mini")


def chain() -> Reasoner:
    """One chain of steps."""
    return _served("chain")


def self_consistency() -> Reasoner:
    """The answer that most chains agree on."""
    return _served("self_consistency")


def best_of_n() -> Reasoner:
    """The best of several chains."""
    return _served("best_of_n")


def beam_search() -> Reasoner:
    """Beam search over steps."""
    return _served("beam_search")


def tree_of_thoughts() -> Reasoner:
    """Tree of Thoughts."""
    return _served("tree_of_thoughts")


def mcts() -> Reasoner:
    """Monte Carlo tree search over steps."""
    return _served("mcts")


def graph_of_thoughts() -> Reasoner:
    """Graph of Thoughts, with its default operations."""
    return _served("graph_of_thoughts")
