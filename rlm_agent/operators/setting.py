"""What all operators of one search share, and what each of them returns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rlm_agent.models.patterns import fill
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Decoding, Message, Policy, Preference, Value
from rlm_agent.structure.budget import Usage, add_usage, no_usage
from rlm_agent.structure.events import OperatorEvent, operator_event
from rlm_agent.structure.steps import Steps, Verifier
from rlm_agent.structure.thoughts import Writes


@dataclass(frozen=True, slots=True)
class Setting:
    """The models, rules and conversation of one search.

    `messages` is the conversation that the policy continues; `seed` decides every random draw. With
    `distinct`, no thought is sampled that says word for word what an elder sibling says; with `traced`,
    thoughts know how sure the policy was of their tokens. `prompts` are the words in which the policy is
    asked for more than the next step.
    """

    policy: Policy
    messages: tuple[Message, ...]
    seed: int
    steps: Steps = field(default_factory=Steps)
    decoding: Decoding = field(default_factory=Decoding)
    value: Value | None = None
    verifier: Verifier | None = None
    preference: Preference | None = None
    prompts: Prompts = field(default_factory=Prompts)
    distinct: bool = False
    traced: bool = False

    def asking(self, *turns: Message) -> "Setting":
        """The same search with further turns at the end of its conversation."""
        return replace(self, messages=(*self.messages, *turns))

    def put(self, pattern: str, **texts: str) -> "Setting":
        """The same search, its question put in the words of a pattern in which `{question}` is a place."""
        *before, asked = self.messages
        text = fill(pattern, question=asked["content"], **texts)
        return replace(self, messages=(*before, Message(role=asked["role"], content=text)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of operators did: its writes, the ids that it put out, what it cost, and an event a call."""

    writes: Writes
    outputs: list[str]
    usage: Usage
    trace: tuple[OperatorEvent, ...] = ()

    def followed_by(self, later: "Outcome") -> "Outcome":
        """Both together, as if one operator had done it all."""
        return Outcome(
            self.writes.followed_by(later.writes),
            self.outputs + later.outputs,
            add_usage(self.usage, later.usage),
            self.trace + later.trace,
        )

    def logged(self, operator: str, inputs: Sequence[str]) -> "Outcome":
        """The same as the outcome of one call of an operator on the thoughts `inputs`."""
        event = operator_event(operator, inputs, self.outputs, self.usage)
        return Outcome(self.writes, self.outputs, self.usage, (event,))


def nothing() -> Outcome:
    """The outcome of doing nothing."""
    return Outcome(Writes({}, {}), [], no_usage())


def only(writes: Writes) -> Outcome:
    """The outcome of an operator that asks no model and adds no thought."""
    return Outcome(writes, [], no_usage())
