"""A model is named by one string everywhere: `mini`, a path to a `.gguf`, or it is an object already."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_core.language_models import BaseChatModel

from rlm_agent.models.awaited import CONTEXT, Awaited
from rlm_agent.models.protocols import Policy, Value
from rlm_agent.models.support import SupportValue
from rlm_agent.models.values import FunctionValue
from rlm_agent.structure.errors import (
    InputError,
    MissingExtraError,
    ModelError,
    UnknownNameError,
)
from rlm_agent.structure.steps import Steps, Verifier
from rlm_agent.tools.arithmetic import sound_arithmetic

if TYPE_CHECKING:
    from rlm_agent.models.gguf.policy import GGUFPolicy

_FORMAT = re.compile(r"(\w{2,}):(?!//)(.+)", re.DOTALL)
"""The name of a format before a path; a single letter is a drive."""

_PROVIDED = re.compile(r"[a-z][a-z0-9_-]+:(?!//)\S+")
"""A provider and its model, as `init_chat_model` takes them."""

_ROLLOUT = re.compile(r"rollout:([0-9]{1,4})")

_HEURISTICS: dict[str, Callable[[], Value]] = {
    "arithmetic": lambda: FunctionValue(sound_arithmetic, "arithmetic"),
    "support": SupportValue,
}
"""Values by name that ask no model."""


def load_policy(model: str | Path | Policy | BaseChatModel) -> Policy:
    """The policy that `model` names; a file is loaded once per process and shared.

    A chat model of LangChain is one by `ChatModelPolicy`, and a `ChatGGUF` the policy that it stands on.
    `"provider:model"` is made by LangChain's `init_chat_model`; `"context"` is an `Awaited`, and a URL a
    `RemotePolicy`. Raises `UnknownNameError` for a name that is none, `ModelFileError` for a file that cannot
    be loaded, `MissingExtraError` without llama-cpp-python or langchain, `ModelError` for a chat model that
    cannot be made.
    """
    if not isinstance(model, str | Path):
        if isinstance(model, BaseChatModel):
            return _chat(model)
        if isinstance(model, Policy):
            return model
        raise UnknownNameError(
            f"{type(model).__name__} is no policy; give a name, a path, a Policy or a chat model"
        )
    if model == CONTEXT:
        return Awaited()
    if "://" in str(model):
        from rlm_agent.models.remote.loading import remote_policy

        return remote_policy(str(model))
    if is_provided(str(model)):
        return _chat(_provided(str(model)))
    from rlm_agent.models.gguf.loading import load_file

    return load_file(str(model))


def is_provided(name: str) -> bool:
    """Whether a name is that of a provider's model, and not of a file."""
    return _PROVIDED.fullmatch(name) is not None and not name.endswith(".gguf")


def _chat(model: BaseChatModel) -> Policy:
    from rlm_agent.models.langchain.chat_gguf import ChatGGUF
    from rlm_agent.models.langchain.chat_policy import ChatModelPolicy

    return model.policy if isinstance(model, ChatGGUF) else ChatModelPolicy(model)


def _provided(name: str) -> BaseChatModel:
    """The chat model `"provider:model"`, by LangChain."""
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise MissingExtraError("langchain", "agents") from error
    try:
        return init_chat_model(name)
    except Exception as error:  # a provider's own, such as for a missing key
        kind = UnknownNameError if isinstance(error, ValueError) else ModelError
        reason = f"{type(error).__name__}: {error}"[:200]
        raise kind(
            f"the chat model {name!r} cannot be made ({reason}); install and set up its provider"
        ) from error


def load_value(
    value: str | Path | Value | BaseChatModel | None,
    policy: Policy,
    steps: Steps | None = None,
    verifier: Verifier | None = None,
) -> Value | None:
    """The value that `value` names, beside a policy; None for none.

    `"head"` is the policy's own value head, `"label"` the probability that the policy, asked, calls a chain
    right. The path of a `.gguf` is a file of a head for the policy, or a model of its own: judged by its head
    where it has one, else by its label. `"math_shepherd:PATH"` is a process reward model in a format of its
    own, one of `values/formats.py`. `"rollout:4"` rolls a chain out four times by the policy, in `steps`, to
    ends that `verifier` judges. `"arithmetic"` asks no model: it checks what the steps say of numbers, as
    `tools.arithmetic.sound_arithmetic` does, and `"support"` compares them with what was read, see
    `models.support`. `"KIND:URL"` is a value at a server, see `remote_value`. A chat model of LangChain is
    asked for grades (`JudgeValue`). Raises what `load_policy` raises, and `InputError` for a policy that does
    not run in this process, and for rollouts without these two.
    """
    if value is None:
        return None
    if not isinstance(value, str | Path):
        return _judge(value)
    from rlm_agent.models.gguf.loading import path_of
    from rlm_agent.models.gguf.values.heads import ValueHead
    from rlm_agent.models.gguf.values.values import HeadValue, LabelValue, own_head

    name = str(value)
    if "://" in name:
        from rlm_agent.models.remote.loading import remote_value

        return remote_value(name)
    if name in _HEURISTICS:
        return _HEURISTICS[name]()
    if name in ("head", "label"):
        return (HeadValue if name == "head" else LabelValue)(_local(policy, name))
    if (rolled := _ROLLOUT.fullmatch(name)) is not None:
        return _rollouts(policy, int(rolled[1]), steps, verifier)
    if (named := _FORMAT.fullmatch(name)) is not None:
        return _reward_model(*named.groups())
    if not name.endswith(".gguf") or "://" in name:
        raise UnknownNameError(
            f"there is no value {name!r}; use 'head', 'label', 'arithmetic', 'support', 'rollout:4', the "
            "path of a .gguf file, or such a path behind the name of a format as in 'math_shepherd:PATH'"
        )
    head = ValueHead.read(path_of(name))
    if head is not None and head.model is not None:
        return HeadValue(_local(policy, name), head)
    judge = _local(load_policy(name), name)
    found = head or own_head(judge.file)
    return LabelValue(judge) if found is None else HeadValue(judge, found)


def _judge(value: Value | BaseChatModel) -> Value:
    """A value that is an object already, or what a chat model is as one."""
    if isinstance(value, BaseChatModel):
        from rlm_agent.models.judges import JudgeValue

        return JudgeValue(load_policy(value))
    if isinstance(value, Value):
        return value
    raise UnknownNameError(
        f"{type(value).__name__} is no value; give 'head', 'label', the path of a .gguf file or a Value"
    )


def _rollouts(policy: Policy, samples: int, steps: Steps | None, verifier: Verifier | None) -> Value:
    from rlm_agent.models.rollouts import RolloutValue

    if steps is None or verifier is None:
        raise InputError(
            f"the value 'rollout:{samples}' needs somebody to judge where the rollouts end; "
            "give a verifier, or the name of a task"
        )
    return RolloutValue(policy, steps, verifier=verifier, samples=samples)


def _reward_model(format: str, path: str) -> Value:
    from rlm_agent.models.gguf.values.formats import FORMATS, PRMValue

    if format not in FORMATS:
        raise UnknownNameError(
            f"there is no format {format!r} of a process reward model; use {', '.join(FORMATS)}"
        )
    return PRMValue(_local(load_policy(path), path), FORMATS[format])


def _local(policy: Policy, value: str) -> "GGUFPolicy":
    """The policy, if it is one over llama.cpp in this process."""
    from rlm_agent.models.gguf.policy import GGUFPolicy

    if not isinstance(policy, GGUFPolicy):
        raise InputError(
            f"the value {value!r} looks into the policy, which {type(policy).__name__} does not allow; "
            "give a Value, or the path of a .gguf file that is a model of its own"
        )
    return policy
