"""Remote models by their URLs."""

import threading

from pydantic import SecretStr

from rlm_agent.models.gguf.values.formats import FORMATS
from rlm_agent.models.judges import JudgeValue
from rlm_agent.models.protocols import Value
from rlm_agent.models.remote.address import address_of, options_of
from rlm_agent.models.remote.labels import RemoteLabelValue, remote_reward_model
from rlm_agent.models.remote.policy import RemotePolicy
from rlm_agent.models.remote.pooled import ENDPOINTS, PooledValue
from rlm_agent.structure.errors import UnknownNameError

_loaded: dict[tuple[str, SecretStr | None], RemotePolicy] = {}
_lock = threading.Lock()
_LOGITS = "skywork"
"""The format whose scores are logits."""


def remote_policy(url: str) -> RemotePolicy:
    """The policy at a URL, with the key in the environment; made, and its server asked, once per process."""
    key = address_of(options_of(url)[0]).key
    with _lock:
        if (url, key) not in _loaded:
            _loaded[url, key] = RemotePolicy(url)
        return _loaded[url, key]


def remote_value(name: str) -> Value:
    """The value `KIND:URL`: `label`, `judge`, one of `ENDPOINTS`, or a reward model's format of `FORMATS`."""
    kind, _, url = name.partition(":")
    if kind == "label":
        return RemoteLabelValue(remote_policy(url))
    if kind == "judge":
        return JudgeValue(remote_policy(url))
    if kind in ENDPOINTS:
        return PooledValue(url, kind)
    if kind not in FORMATS:
        known = ", ".join(("label", "judge", *ENDPOINTS, *FORMATS))
        raise UnknownNameError(f"there is no value {kind!r} at a server; name KIND:URL, KIND one of {known}")
    if FORMATS[kind].labels is None:
        return PooledValue(url, "pooling", format=FORMATS[kind], squash=kind == _LOGITS)
    return remote_reward_model(remote_policy(url), FORMATS[kind])
