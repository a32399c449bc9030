"""A model that is not there yet: each run brings its own."""

from collections.abc import Sequence
from typing import NoReturn

from rlm_agent.models.protocols import Candidate, Completion, Decoding, Request, Score
from rlm_agent.structure.errors import InputError

CONTEXT = "context"
"""The name of the model that each run is given in its context."""


class Awaited:
    """Stands where a policy and its value will, so that a reasoner can be made, drawn and read without them.

    Whatever it is asked, it raises `InputError`.
    """

    identity = CONTEXT
    task = None
    decoding = Decoding()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """See the class."""
        self.refuse()

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        """See the class."""
        self.refuse()

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """See the class."""
        self.refuse()

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """See the class."""
        self.refuse()

    def refuse(self) -> NoReturn:
        """Say what is missing."""
        raise InputError(
            "this reasoner is given its model by each run; pass context=ReasonerContext(policy=…), "
            "with the model of before where a search is to go on"
        )
