"""Scoring by one look at what stands after a prompt, whatever is then read there."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from rlm_agent.models.gguf.engine.jobs import Job, Result, Tokens
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.gguf.values.readings import Reading
from rlm_agent.models.protocols import Candidate, Message, Score
from rlm_agent.structure.errors import InputError

_NO_NUMBER = "the model computes values that are no numbers"


class Looker(Protocol):
    """What an engine offers here."""

    def complete(self, jobs: Sequence[Job]) -> list[Result]:
        """One result a job, in order."""

    async def acomplete(self, jobs: Sequence[Job]) -> list[Result]:
        """The same without blocking the event loop."""


class LocalPolicy(Protocol):
    """A policy whose engine runs in this process; `GGUFPolicy` is one."""

    @property
    def identity(self) -> str:
        """See `Policy`."""

    @property
    def engine(self) -> Looker:
        """What computes."""

    @property
    def file(self) -> ModelFile:
        """The loaded model."""

    @property
    def adapter(self) -> str | None:
        """The LoRA adapter in force."""

    def prompt(self, messages: Sequence[Message], prefix: str) -> Tokens:
        """The tokens up to the end of `prefix`, which begins the assistant's turn."""


class Looking(ABC):
    """Scores candidates by one reading after a prompt each; a candidate that fails harms no other."""

    def __init__(self, policy: LocalPolicy, reading: Reading, identity: str) -> None:
        self.policy = policy
        self.reading = reading
        self.identity = f"{policy.identity}:{identity}"

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate, in order."""
        jobs = [self._job(candidate) for candidate in candidates]
        asked = [job for job in jobs if isinstance(job, Job)]
        return self._scores(jobs, self.policy.engine.complete(asked) if asked else [])

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same without blocking the event loop."""
        jobs = [self._job(candidate) for candidate in candidates]
        asked = [job for job in jobs if isinstance(job, Job)]
        return self._scores(jobs, await self.policy.engine.acomplete(asked) if asked else [])

    def _job(self, candidate: Candidate) -> Job | Score:
        try:
            prompt = self._prompt(candidate)
        except InputError as error:
            return Score(0.0, error=str(error))
        return Job(prompt, max_tokens=0, hidden=self.reading.hidden, adapter=self.policy.adapter)

    def _scores(self, jobs: Sequence[Job | Score], results: Sequence[Result]) -> list[Score]:
        scores = map(_score, results, self.reading(results))
        return [job if isinstance(job, Score) else next(scores) for job in jobs]

    @abstractmethod
    def _prompt(self, candidate: Candidate) -> Tokens:
        """The tokens after which to look; `InputError` for a candidate that has no such place."""


def _score(result: Result, value: float) -> Score:
    if result.error is not None:
        return Score(0.0, result.computed, result.error)
    if not math.isfinite(value):
        return Score(0.0, result.computed, _NO_NUMBER)
    return Score(value, result.computed)
