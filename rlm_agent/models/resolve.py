"""A model is named by one string everywhere: `mini`, a path to a `.gguf`, or it is an object already."""

import os
import re
import threading
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from rlm_agent.models.protocols import Policy, Value
from rlm_agent.structure.errors import InputError, ModelFileError, UnknownNameError
from rlm_agent.structure.steps import Steps, Verifier

if TYPE_CHECKING:
    from rlm_agent.models.gguf.policy import GGUFPolicy

EMBEDDED = {"mini": "weights/mini.gguf"}
"""Models that ship with the package, and where their files lie in it."""

_FORMAT = re.compile(r"(\w{2,}):(?!//)(.+)", re.DOTALL)
"""The name of a format before a path; a single letter is a drive."""

_ROLLOUT = re.compile(r"rollout:([0-9]{1,4})")

_loaded: dict[tuple[Path, int, int], Policy] = {}
_lock = threading.Lock()


def load_policy(model: str | Path | Policy) -> Policy:
    """The policy that `model` names; a file is loaded once per process and shared.

    Raises `UnknownNameError` for a name that is none, `ModelFileError` for a file that cannot be loaded,
    `MissingExtraError` without llama-cpp-python.
    """
    if not isinstance(model, str | Path):
        if isinstance(model, Policy):
            return model
        raise UnknownNameError(f"{type(model).__name__} is no policy; give a name, a path or a Policy")
    with _lock:
        return _load(_path(str(model)))


def load_value(
    value: str | Path | Value | None,
    policy: Policy,
    steps: Steps | None = None,
    verifier: Verifier | None = None,
) -> Value | None:
    """The value that `value` names, beside a policy; None for none.

    `"head"` is the policy's own value head, `"label"` the probability that the policy, asked, calls a chain
    right. The path of a `.gguf` is a file of a head for the policy, or a model of its own: judged by its head
    where it has one, else by its label. `"math_shepherd:PATH"` is a process reward model in a format of its
    own, one of `values/formats.py`. `"rollout:4"` rolls a chain out four times by the policy, in `steps`, to
    ends that `verifier` judges. Raises what `load_policy` raises, and `InputError` for a policy that does not
    run in this process, and for rollouts without these two.
    """
    if value is None:
        return None
    if not isinstance(value, str | Path):
        if isinstance(value, Value):
            return value
        raise UnknownNameError(
            f"{type(value).__name__} is no value; give 'head', 'label', the path of a .gguf file or a Value"
        )
    from rlm_agent.models.gguf.values.heads import ValueHead
    from rlm_agent.models.gguf.values.values import HeadValue, LabelValue, own_head

    name = str(value)
    if name == "head":
        return HeadValue(_local(policy, name))
    if name == "label":
        return LabelValue(_local(policy, name))
    if (rolled := _ROLLOUT.fullmatch(name)) is not None:
        return _rollouts(policy, int(rolled[1]), steps, verifier)
    if (named := _FORMAT.fullmatch(name)) is not None:
        return _reward_model(*named.groups())
    if not name.endswith(".gguf") or "://" in name:
        raise UnknownNameError(
            f"there is no value {name!r}; use 'head', 'label', 'rollout:4', the path of a .gguf file, or "
            "such a path behind the name of a format as in 'math_shepherd:PATH'"
        )
    head = ValueHead.read(_path(name))
    if head is not None and head.model is not None:
        return HeadValue(_local(policy, name), head)
    judge = _local(load_policy(name), name)
    found = head or own_head(judge.file)
    return LabelValue(judge) if found is None else HeadValue(judge, found)


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


def _path(model: str) -> Path:
    if model in EMBEDDED:
        return Path(str(files("rlm_agent.models") / EMBEDDED[model]))
    if "://" in model:
        raise UnknownNameError(f"{model!r} is a URL, which this version cannot use; name a .gguf file")
    if model.endswith(".gguf"):
        try:
            return Path(model).expanduser().resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelFileError(f"{model!r} is no path ({error}); name an existing .gguf file") from error
    raise UnknownNameError(
        f"there is no model {model!r}; use {', '.join(EMBEDDED)} or the path of a .gguf file"
    )


def _load(path: Path) -> Policy:
    from rlm_agent.models.gguf.policy import GGUFPolicy

    key = (path, _written(path), os.getpid())  # what was loaded before a fork is of no use after it
    if key not in _loaded:
        _loaded[key] = GGUFPolicy(path)
    return _loaded[key]


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # whoever opens it says why it cannot be read
