"""How a general model is asked for a judgement: a pattern, and the two labels that it may answer with."""

import hashlib
from dataclasses import astuple, dataclass

from rlm_agent.models.patterns import fill, question_of, require_places
from rlm_agent.models.protocols import Candidate, Message


@dataclass(frozen=True, slots=True)
class Labels:
    """What is asked of a judge, and what it answers: `good` or `bad`, of which the first token counts.

    In `ask`, the user's message, `{question}` and `{steps}` stand for the conversation's contents without
    the system's and for the steps, a line each and each written as `step` says. Raises `InputError` for an
    `ask` without `{steps}` or a `step` without `{step}`.
    """

    good: str
    bad: str
    ask: str
    step: str = "{step}"

    def __post_init__(self) -> None:
        require_places(self.ask, "steps")
        require_places(self.step, "step")

    @property
    def identity(self) -> str:
        """A fingerprint of the question and the labels."""
        return hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:16]

    def messages(self, candidate: Candidate) -> tuple[Message, ...]:
        """The question put to the judge."""
        steps = "\n".join(fill(self.step, step=step) for step in candidate.steps)
        text = fill(self.ask, question=question_of(candidate.messages), steps=steps)
        return (Message(role="user", content=text),)


YES_NO = Labels(
    "Yes",
    "No",
    "Question:\n{question}\n\nSolution so far:\n{steps}\n\n"
    "Is this solution right as far as it goes, and does it lead to the right answer? Reply Yes or No only.",
)
"""For an instruct model that was not trained as a judge."""
