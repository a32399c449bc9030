"""LangGraph's policies for the nodes of a search: what is tried again, and what is the same question."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import httpx
from langchain_core.messages import convert_to_messages
from langgraph.types import RetryPolicy

from rlm_agent.structure.errors import RlmError

Retry = RetryPolicy | Sequence[RetryPolicy] | bool
"""LangGraph's policy for all nodes of a search; True is `RETRY`, False lets the first error end the run."""


def transient(error: BaseException) -> bool:
    """Whether what was raised may be gone in a moment: a lost connection, a timeout, never our own errors."""
    passing = isinstance(error, ConnectionError | TimeoutError | httpx.TransportError)
    return passing and not isinstance(error, RlmError)


RETRY = RetryPolicy(
    initial_interval=0.25, backoff_factor=4.0, max_attempts=3, jitter=False, retry_on=transient
)
"""A node is tried three times within some two seconds. It writes and counts what its last attempt did, and
its draws depend on the seed and the thought alone, so that the tree is that of a run without the fault."""


def question_key(state: Any) -> str:
    """A key for LangGraph's `CachePolicy(key_func=…)` of a reasoner as a node: what its conversation says.

    The ids of messages do not count, so that a question asked again is answered by the reply of before.
    """
    messages = convert_to_messages(state["messages"])
    told = [message.model_dump(exclude={"id"}) for message in messages]
    return hashlib.sha256(json.dumps([told, state.get("terms")], default=str).encode()).hexdigest()
