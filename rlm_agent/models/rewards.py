"""An outcome reward model made of any value: it judges whole trajectories and nothing before their ends."""

from collections.abc import Iterator, Sequence

from rlm_agent.models.drive import Asking, adrive, ask_value, drive
from rlm_agent.models.protocols import Candidate, Score, Value
from rlm_agent.models.values import most_of

_UNFINISHED = Score(0.0, error="a reward is given for a finished trajectory only", calls=0)


class OutcomeValue:
    """What a value says of finished chains; an unfinished one has none, unasked and free of charge."""

    def __init__(self, value: Value) -> None:
        self.value = value
        self.identity = f"outcome:{value.identity}"

    @property
    def most_calls(self) -> int:
        """See `Composite`."""
        return most_of(self.value)[0]

    @property
    def most_tokens(self) -> int:
        """See `Composite`."""
        return most_of(self.value)[1]

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate, in order; fewer where the value falls short."""
        return drive(self._scoring(candidates))

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same without blocking the event loop."""
        return await adrive(self._scoring(candidates))

    def _scoring(self, candidates: Sequence[Candidate]) -> Asking[list[Score]]:
        scores = yield from ask_value(self.value, [one for one in candidates if one.final])
        return list(_in_place(candidates, iter(scores)))


def _in_place(candidates: Sequence[Candidate], scores: Iterator[Score]) -> Iterator[Score]:
    for candidate in candidates:
        score = next(scores, None) if candidate.final else _UNFINISHED
        if score is None:
            return
        yield score
