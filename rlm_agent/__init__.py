"""Reasoning language models: search and other strategies as LangGraph state machines over small models.

Everything public is importable from here; it is loaded when first used, so that `import rlm_agent` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm_agent.graphs.beam_search import create_beam_search
    from rlm_agent.graphs.best_first import create_best_first
    from rlm_agent.graphs.best_of_n import create_best_of_n
    from rlm_agent.graphs.chain import create_chain
    from rlm_agent.graphs.dvts import create_dvts
    from rlm_agent.graphs.mcts import create_mcts
    from rlm_agent.graphs.particle_filtering import create_particle_filtering
    from rlm_agent.graphs.reasoner import create_reasoner
    from rlm_agent.graphs.rest_mcts import create_rest_mcts
    from rlm_agent.graphs.self_consistency import create_self_consistency
    from rlm_agent.graphs.tree_of_thoughts import create_tree_of_thoughts
    from rlm_agent.models.fake import FakePolicy, FakeValue
    from rlm_agent.models.gguf.policy import GGUFPolicy
    from rlm_agent.models.protocols import Completion, Decoding, Policy, Request, Value
    from rlm_agent.structure.budget import Budget, Usage
    from rlm_agent.structure.errors import RlmError
    from rlm_agent.structure.formats import AnswerEnd, StepFormat
    from rlm_agent.structure.steps import Checked, Steps, Verdict, Verifier
    from rlm_agent.structure.thoughts import Stats, Thought, ThoughtGraph

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
    "create_mcts": "graphs.mcts",
    "create_rest_mcts": "graphs.rest_mcts",
    "FakePolicy": "models.fake",
    "FakeValue": "models.fake",
    "GGUFPolicy": "models.gguf.policy",
    "Completion": "models.protocols",
    "Decoding": "models.protocols",
    "Policy": "models.protocols",
    "Request": "models.protocols",
    "Value": "models.protocols",
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
}

__all__ = [
    "AnswerEnd",
    "Budget",
    "Checked",
    "Completion",
    "Decoding",
    "FakePolicy",
    "FakeValue",
    "GGUFPolicy",
    "Policy",
    "Request",
    "RlmError",
    "Stats",
    "StepFormat",
    "Steps",
    "Thought",
    "ThoughtGraph",
    "Usage",
    "Value",
    "Verdict",
    "Verifier",
    "__version__",
    "create_beam_search",
    "create_best_first",
    "create_best_of_n",
    "create_chain",
    "create_dvts",
    "create_mcts",
    "create_particle_filtering",
    "create_reasoner",
    "create_rest_mcts",
    "create_self_consistency",
    "create_tree_of_thoughts",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
