"""What one run of a reasoner may be given beside its question: models, a retriever, tools.

LangGraph hands a context down to every node, and to the graphs within a graph, and stores nothing of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langgraph.runtime import get_runtime

from rlm_agent.models.embedded import EMBEDDED
from rlm_agent.models.protocols import Preference
from rlm_agent.structure.errors import InputError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from rlm_agent.models.protocols import Policy, Value
    from rlm_agent.structure.steps import Verifier
else:  # LangGraph Server makes a JSON schema of the fields, which protocols do not have
    BaseChatModel = Policy = Value = Verifier = Any

_NAMED_VALUES = re.compile(r"head|label|arithmetic|support|rollout:[0-9]{1,4}")


@dataclass(frozen=True, eq=False)
class ReasonerContext:
    """What a run is made with in the place of what its reasoner was made with; None leaves that as it is.

    policy: the model. value, preference, verifier, retriever, tools: as the keywords of `create_*`.

    Models and retrievers are objects, made by the caller. Names are those of embedded models, of tasks, and
    of values that name no file: a context may come from a server's client, who must not open files or spend
    on a provider. Use one object for as long as its models serve: what a reasoner makes of it is kept with
    it.
    Raises `InputError` for other names, and for a preference that is none.
    """

    policy: Policy | BaseChatModel | str | None = None
    value: Value | BaseChatModel | str | None = None
    preference: Any = None
    verifier: Verifier | str | None = None
    retriever: Any = None
    tools: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.policy, str) and self.policy not in EMBEDDED:
            raise InputError(
                f"a context names no model {self.policy!r}; give a Policy, such as GGUFPolicy(path), "
                f"a chat model, or one of {', '.join(EMBEDDED)}"
            )
        if isinstance(self.value, str) and _NAMED_VALUES.fullmatch(self.value) is None:
            raise InputError(
                f"a context names no value {self.value!r}; give a Value, a chat model, 'head', 'label', "
                "'arithmetic', 'support' or 'rollout:4'"
            )
        if self.preference is not None and not isinstance(self.preference, Preference):
            raise InputError(f"{type(self.preference).__name__} is no preference; give a Preference")

    @property
    def given(self) -> dict[str, Any]:
        """What it holds, by the keywords of `create_*`."""
        named = {"model" if name == "policy" else name: value for name, value in vars(self).items()}
        return {name: value for name, value in named.items() if value is not None}


def current_context() -> ReasonerContext | None:
    """The context of the run whose node this is called in.

    An app with a context of its own may hold one as its `reasoner`; any other context is not for us.
    """
    context: Any = get_runtime().context
    if not isinstance(context, ReasonerContext):
        mapped = isinstance(context, Mapping)
        context = context.get("reasoner") if mapped else getattr(context, "reasoner", None)
    return context if isinstance(context, ReasonerContext) else None
