"""Between a conversation and a search: the question that a conversation asks, the reply that it gets."""

import secrets
import uuid
from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata

from rlm_agent.graphs.machine.memory import noted
from rlm_agent.models.protocols import Message, Policy
from rlm_agent.structure.budget import Usage
from rlm_agent.structure.errors import ProblemError

_ROLES = {"human": "user", "ai": "assistant", "system": "system"}


def last_question(messages: Sequence[AnyMessage]) -> HumanMessage:
    """The last human message; `ProblemError` where there is none."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return message
    raise ProblemError("the conversation has no human message; send the question as one")


def turn_of(messages: Sequence[AnyMessage]) -> int:
    """How many questions the conversation has asked so far, the last one included."""
    return sum(isinstance(message, HumanMessage) for message in messages)


def policy_messages(
    messages: Sequence[AnyMessage],
    question: str,
    policy: Policy,
    system_prompt: str | None,
    notes: Sequence[str] = (),
) -> tuple[Message, ...]:
    """What the policy gets to read.

    A specialist reads the question alone, in its canonical text; a general model the system prompt and the
    conversation up to the question, tool traffic left out, and before the question the notes on earlier ones.
    """
    if policy.task is not None:
        return (Message(role="user", content=question),)
    asked = last_question(messages)
    turns = [
        Message(role=_ROLES[message.type], content=message.text)  # type: ignore[typeddict-item]
        for message in messages[: messages.index(asked)]
        if message.type in _ROLES
    ]
    system = [Message(role="system", content=system_prompt)] if system_prompt else []
    return (*system, *turns, Message(role="user", content=noted(notes, question)))


def reply(
    id: str,
    answer: str | None,
    steps: Sequence[str],
    sources: Sequence[str],
    stopped: str,
    usage: Usage,
    name: str,
) -> BaseMessage:
    """The reply to the question: the answer as content, beside it the steps to it and its sources."""
    prompt = usage["prompt_tokens"] + usage["cached_tokens"]
    return AIMessage(
        id=id,
        name=name,
        content=answer if answer is not None else f"No answer was found (stopped: {stopped}).",
        additional_kwargs={
            **({"reasoning_content": "\n".join(steps)} if steps else {}),
            **({"sources": list(sources)} if sources else {}),
        },
        usage_metadata=UsageMetadata(
            input_tokens=prompt,
            output_tokens=usage["completion_tokens"],
            total_tokens=prompt + usage["completion_tokens"],
        ),
    )


def draw_seed() -> int:
    """A seed for a run that was given none."""
    return secrets.randbits(32)


def new_id() -> str:
    """An id for a reply."""
    return str(uuid.uuid4())
