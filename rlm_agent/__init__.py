"""Reasoning language models: search and other strategies as LangGraph state machines over small models.

Everything public is importable from here; it is loaded when first used, so that `import rlm_agent` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm_agent.graphs.armap import create_armap
    from rlm_agent.graphs.beam_search import create_beam_search
    from rlm_agent.graphs.best_first import create_best_first
    from rlm_agent.graphs.best_of_n import create_best_of_n
    from rlm_agent.graphs.chain import create_chain
    from rlm_agent.graphs.coat import create_coat
    from rlm_agent.graphs.dvts import create_dvts
    from rlm_agent.graphs.editing import aedit, edit
    from rlm_agent.graphs.graph_of_thoughts import create_graph_of_thoughts
    from rlm_agent.graphs.journey import create_journey
    from rlm_agent.graphs.lats import create_lats
    from rlm_agent.graphs.llama_berry import create_llama_berry
    from rlm_agent.graphs.long_chain import create_long_chain
    from rlm_agent.graphs.machine.context import ReasonerContext
    from rlm_agent.graphs.machine.graph import takes_context
    from rlm_agent.graphs.machine.memory import Memory
    from rlm_agent.graphs.machine.policies import question_key
    from rlm_agent.graphs.machine.review import Review
    from rlm_agent.graphs.machine.saver import BufferedSqliteSaver
    from rlm_agent.graphs.mcts import create_mcts
    from rlm_agent.graphs.nested import ReasonerPolicy, ReasonerValue
    from rlm_agent.graphs.particle_filtering import create_particle_filtering
    from rlm_agent.graphs.react import create_react
    from rlm_agent.graphs.reasoner import create_reasoner
    from rlm_agent.graphs.rest_mcts import create_rest_mcts
    from rlm_agent.graphs.rstar import create_rstar
    from rlm_agent.graphs.self_consistency import create_self_consistency
    from rlm_agent.graphs.tracing import atrace, trace
    from rlm_agent.graphs.tree_of_thoughts import create_tree_of_thoughts
    from rlm_agent.graphs.ways.agent import create_reasoning_agent
    from rlm_agent.graphs.ways.chat_model import ReasonerChatModel
    from rlm_agent.graphs.ways.middleware import ReasoningMiddleware
    from rlm_agent.graphs.ways.tool import as_tool
    from rlm_agent.models.fake import FakePolicy, FakeValue
    from rlm_agent.models.gguf.policy import GGUFPolicy
    from rlm_agent.models.langchain.chat_gguf import ChatGGUF
    from rlm_agent.models.langchain.chat_policy import ChatModelPolicy
    from rlm_agent.models.protocols import Completion, Decoding, Piece, Policy, Request, Streaming, Value
    from rlm_agent.models.remote.client import Patience
    from rlm_agent.models.remote.labels import RemoteLabelValue
    from rlm_agent.models.remote.policy import RemotePolicy
    from rlm_agent.models.remote.pooled import PooledValue
    from rlm_agent.models.retrieval import Retrieval
    from rlm_agent.models.rollouts import RolloutValue
    from rlm_agent.models.support import SupportValue
    from rlm_agent.models.values import FunctionValue, VerifierValue
    from rlm_agent.operators.operations.choosing import KeepBest, KeepValid, Score, Selector
    from rlm_agent.operators.operations.making import Aggregate, Generate, Improve, Reason, ValidateAndImprove
    from rlm_agent.operators.rules.adaptive import Adaptive
    from rlm_agent.retrieval.index import DocumentIndex
    from rlm_agent.structure.budget import Budget, Usage
    from rlm_agent.structure.errors import RlmError
    from rlm_agent.structure.formats import AnswerEnd, StepFormat
    from rlm_agent.structure.steps import Checked, Steps, Verdict, Verifier
    from rlm_agent.structure.thoughts import Stats, Thought, ThoughtGraph
    from rlm_agent.tools.calculator import Calculator
    from rlm_agent.tools.dates import Dates
    from rlm_agent.tools.protocols import Tool
    from rlm_agent.tools.python import Python
    from rlm_agent.tools.tables import Tables
    from rlm_agent.tools.toolbox import Toolbox
    from rlm_agent.tools.units import Units
    from rlm_agent.tools.verifying import code_verifier

__version__ = "0.1.0"

_HOMES = {
    "create_reasoner": "graphs.reasoner",
    "create_chain": "graphs.chain",
    "create_self_consistency": "graphs.self_consistency",
    "create_best_of_n": "graphs.best_of_n",
    "create_beam_search": "graphs.beam_search",
    "create_dvts": "graphs.dvts",
    "create_particle_filtering": "graphs.particle_filtering",
    "create_tree_of_thoughts": "graphs.tree_of_thoughts",
    "create_best_first": "graphs.best_first",
    "create_graph_of_thoughts": "graphs.graph_of_thoughts",
    "create_mcts": "graphs.mcts",
    "create_rest_mcts": "graphs.rest_mcts",
    "create_llama_berry": "graphs.llama_berry",
    "create_armap": "graphs.armap",
    "create_rstar": "graphs.rstar",
    "create_react": "graphs.react",
    "create_lats": "graphs.lats",
    "create_journey": "graphs.journey",
    "create_long_chain": "graphs.long_chain",
    "create_coat": "graphs.coat",
    "create_reasoning_agent": "graphs.ways.agent",
    "as_tool": "graphs.ways.tool",
    "Review": "graphs.machine.review",
    "aedit": "graphs.editing",
    "edit": "graphs.editing",
    "BufferedSqliteSaver": "graphs.machine.saver",
    "ReasonerContext": "graphs.machine.context",
    "Memory": "graphs.machine.memory",
    "question_key": "graphs.machine.policies",
    "takes_context": "graphs.machine.graph",
    "ReasonerChatModel": "graphs.ways.chat_model",
    "ReasoningMiddleware": "graphs.ways.middleware",
    "ReasonerPolicy": "graphs.nested",
    "ReasonerValue": "graphs.nested",
    "FakePolicy": "models.fake",
    "FakeValue": "models.fake",
    "GGUFPolicy": "models.gguf.policy",
    "ChatGGUF": "models.langchain.chat_gguf",
    "ChatModelPolicy": "models.langchain.chat_policy",
    "Patience": "models.remote.client",
    "PooledValue": "models.remote.pooled",
    "RemoteLabelValue": "models.remote.labels",
    "RemotePolicy": "models.remote.policy",
    "Completion": "models.protocols",
    "Decoding": "models.protocols",
    "Piece": "models.protocols",
    "Policy": "models.protocols",
    "Request": "models.protocols",
    "Streaming": "models.protocols",
    "Value": "models.protocols",
    "RolloutValue": "models.rollouts",
    "SupportValue": "models.support",
    "FunctionValue": "models.values",
    "VerifierValue": "models.values",
    "Retrieval": "models.retrieval",
    "Adaptive": "operators.rules.adaptive",
    "Aggregate": "operators.operations.making",
    "Generate": "operators.operations.making",
    "Improve": "operators.operations.making",
    "KeepBest": "operators.operations.choosing",
    "KeepValid": "operators.operations.choosing",
    "Reason": "operators.operations.making",
    "Score": "operators.operations.choosing",
    "Selector": "operators.operations.choosing",
    "ValidateAndImprove": "operators.operations.making",
    "Budget": "structure.budget",
    "Usage": "structure.budget",
    "RlmError": "structure.errors",
    "AnswerEnd": "structure.formats",
    "StepFormat": "structure.formats",
    "Checked": "structure.steps",
    "Steps": "structure.steps",
    "Verdict": "structure.steps",
    "Verifier": "structure.steps",
    "Stats": "structure.thoughts",
    "Thought": "structure.thoughts",
    "ThoughtGraph": "structure.thoughts",
    "DocumentIndex": "retrieval.index",
    "Calculator": "tools.calculator",
    "Dates": "tools.dates",
    "Python": "tools.python",
    "Tables": "tools.tables",
    "Units": "tools.units",
    "code_verifier": "tools.verifying",
    "Tool": "tools.protocols",
    "Toolbox": "tools.toolbox",
    "trace": "graphs.tracing",
    "atrace": "graphs.tracing",
}

__all__ = [
    "Adaptive",
    "Aggregate",
    "AnswerEnd",
    "Budget",
    "BufferedSqliteSaver",
    "Calculator",
    "ChatGGUF",
    "ChatModelPolicy",
    "Checked",
    "Completion",
    "Dates",
    "Decoding",
    "DocumentIndex",
    "FakePolicy",
    "FakeValue",
    "FunctionValue",
    "GGUFPolicy",
    "Generate",
    "Improve",
    "KeepBest",
    "KeepValid",
    "Memory",
    "Patience",
    "Piece",
    "Policy",
    "PooledValue",
    "Python",
    "Reason",
    "ReasonerChatModel",
    "ReasonerContext",
    "ReasonerPolicy",
    "ReasonerValue",
    "ReasoningMiddleware",
    "RemoteLabelValue",
    "RemotePolicy",
    "Request",
    "Retrieval",
    "Review",
    "RlmError",
    "RolloutValue",
    "Score",
    "Selector",
    "Stats",
    "StepFormat",
    "Steps",
    "Streaming",
    "SupportValue",
    "Tables",
    "Thought",
    "ThoughtGraph",
    "Tool",
    "Toolbox",
    "Units",
    "Usage",
    "ValidateAndImprove",
    "Value",
    "Verdict",
    "Verifier",
    "VerifierValue",
    "__version__",
    "aedit",
    "as_tool",
    "atrace",
    "code_verifier",
    "create_armap",
    "create_beam_search",
    "create_best_first",
    "create_best_of_n",
    "create_chain",
    "create_coat",
    "create_dvts",
    "create_graph_of_thoughts",
    "create_journey",
    "create_lats",
    "create_llama_berry",
    "create_long_chain",
    "create_mcts",
    "create_particle_filtering",
    "create_react",
    "create_reasoner",
    "create_reasoning_agent",
    "create_rest_mcts",
    "create_rstar",
    "create_self_consistency",
    "create_tree_of_thoughts",
    "edit",
    "question_key",
    "takes_context",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
