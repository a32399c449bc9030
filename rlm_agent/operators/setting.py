"""What all operators of one search share, and what each of them returns."""

from dataclasses import dataclass, field

from rlm_agent.models.protocols import Decoding, Message, Policy, Value
from rlm_agent.structure.budget import Usage, add_usage
from rlm_agent.structure.steps import Steps, Verifier
from rlm_agent.structure.thoughts import Writes


@dataclass(frozen=True, slots=True)
class Setting:
    """The models, rules and conversation of one search.

    `messages` is the conversation that the policy continues; `seed` decides every random draw. With
    `distinct`, no thought is sampled that says word for word what an elder sibling says.
    """

    policy: Policy
    messages: tuple[Message, ...]
    seed: int
    steps: Steps = field(default_factory=Steps)
    decoding: Decoding = field(default_factory=Decoding)
    value: Value | None = None
    verifier: Verifier | None = None
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of an operator did: its writes, the ids that it put out, and what it cost."""

    writes: Writes
    outputs: list[str]
    usage: Usage

    def followed_by(self, later: "Outcome") -> "Outcome":
        """Both together, as if one operator had done it all."""
        return Outcome(
            self.writes.followed_by(later.writes),
            self.outputs + later.outputs,
            add_usage(self.usage, later.usage),
        )
