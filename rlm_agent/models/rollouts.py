"""A value by rollouts: what a policy makes of a chain, again and again."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlm_agent.models.drive import Asking, adrive, ask_policy, ask_value, drive
from rlm_agent.models.patterns import digest
from rlm_agent.models.protocols import Candidate, Completion, Decoding, Policy, Request, Score, Value
from rlm_agent.models.reading import Behind, Reading, next_step, read_step
from rlm_agent.models.values import VerifierValue, fault_of, most_of, question_to, too_few
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.ids import derive_seed
from rlm_agent.structure.steps import Steps, Verifier


class RolloutValue:
    """A chain's value is what becomes of it: the mean over `samples` ends that a policy leads it to.

    An end that `verifier` accepts is worth 1; without a verifier, `value` says what an end is worth. A
    rollout that fails, or has not ended after `max_tokens` (by default as many as `steps` allow), is worth 0.
    Those that the policy sent an error for are left out, and where all are, the chain is in error. A chain
    that has ended is judged as it is. Source: Math-Shepherd's soft estimation (Wang et al., arXiv 2312.08935,
    §3.3).

    Seeds follow from the chain, so that its value is the same in any company. Raises `InputError` for less
    than one sample or token, and unless exactly one of `verifier` and `value` is given.
    """

    def __init__(
        self,
        policy: Policy,
        steps: Steps,
        *,
        verifier: Verifier | None = None,
        value: Value | None = None,
        samples: int = 4,
        max_tokens: int | None = None,
        decoding: Decoding | None = None,
        seed: int = 0,
    ) -> None:
        if samples < 1 or (max_tokens is not None and max_tokens < 1):
            raise InputError(f"samples={samples}, max_tokens={max_tokens} roll nothing out; give at least 1")
        if value is None:
            if verifier is None:
                raise InputError("nobody judges where the rollouts end; give a verifier or a value")
            value = VerifierValue(verifier, steps)
        elif verifier is not None:
            raise InputError("a verifier and a value both judge where the rollouts end; give one of them")
        self.policy, self.steps, self.ends, self.samples = policy, steps, value, samples
        self.max_tokens = max_tokens or steps.longest * steps.max_steps
        self.decoding = decoding or policy.decoding
        self.seed = seed
        settings = digest(repr((samples, self.max_tokens, self.decoding, seed, value.identity)))
        self.identity = f"{policy.identity}:rollout={settings}"

    @property
    def most_calls(self) -> int:
        """See `Composite`."""
        return self.samples * (self.steps.max_steps + most_of(self.ends)[0])

    @property
    def most_tokens(self) -> int:
        """See `Composite`."""
        return self.samples * (self.max_tokens + most_of(self.ends)[1])

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate, in order."""
        return drive(self._scoring(candidates))

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same without blocking the event loop."""
        return await adrive(self._scoring(candidates))

    def _scoring(self, candidates: Sequence[Candidate]) -> Asking[list[Score]]:
        groups = [self._begin(candidate) for candidate in candidates]
        rollouts = [rollout for group in groups for rollout in group]
        while under_way := [one for one in rollouts if one.goes_on(self.max_tokens)]:
            requests = [self._request(one) for one in under_way]
            completions = yield from ask_policy(self.policy, requests)
            if len(completions) != len(requests):
                fault = f"the policy sent {len(completions)} completions for {len(requests)} requests"
                completions = [Completion("", 0, 0.0, "error", error=fault, calls=0)] * len(requests)
            for one, completion in zip(under_way, completions, strict=True):
                one.take(completion, self.steps)
        yield from self._judge([one for one in rollouts if one.ended])
        return [_outcome(group) for group in groups]

    def _begin(self, candidate: Candidate) -> list["_Rollout"]:
        """The rollouts of a chain: of one that has ended, itself."""
        if candidate.final:
            return [_Rollout(candidate, list(candidate.steps), None, 0, ended=True)]
        state = _state(candidate, self.steps)
        key = digest(repr((candidate.messages, candidate.steps)))
        seeds = (derive_seed(self.seed, key, number) for number in range(self.samples))
        return [_Rollout(candidate, list(candidate.steps), state, seed) for seed in seeds]

    def _request(self, rollout: "_Rollout") -> Request:
        return next_step(
            rollout.candidate.messages,
            self.steps.prefix(rollout.steps),
            self.steps,
            decoding=self.decoding,
            max_tokens=min(self.steps.longest, self.max_tokens - rollout.tokens),
            seed=derive_seed(rollout.seed, len(rollout.steps)),
        )

    def _judge(self, rollouts: Sequence["_Rollout"]) -> Asking[None]:
        ends = [Candidate(one.candidate.messages, tuple(one.steps), final=True) for one in rollouts]
        scores = yield from ask_value(self.ends, ends)
        if len(scores) != len(ends):
            scores = [Score(0.0, error=too_few(scores, ends))] * len(ends)
        for one, score in zip(rollouts, scores, strict=True):
            one.score = score


@dataclass(slots=True)
class _Rollout:
    """One continuation of a chain, and what it has cost."""

    candidate: Candidate
    steps: list[str]
    state: str | None
    seed: int
    ended: bool = False
    fault: str | None = None
    failed: bool = False
    score: Score | None = None
    tokens: int = 0
    prompt_tokens: int = 0
    calls: int = 0

    def goes_on(self, max_tokens: int) -> bool:
        return not (self.ended or self.failed or self.fault) and self.tokens < max_tokens

    def take(self, completion: Completion, steps: Steps) -> None:
        """Go on by what the policy wrote."""
        self.tokens += completion.tokens
        self.prompt_tokens += completion.prompt_tokens
        self.calls += completion.calls
        if completion.finish == "error":
            self.fault = completion.error or "the model gave no reply"
            return
        behind = Behind(question_to(self.candidate), len(self.steps), self.state, lambda: self.steps)
        self._go_on(read_step(behind, completion, steps))

    def _go_on(self, reading: Reading) -> None:
        self.failed, self.ended = reading.kind == "failed", reading.kind == "final"
        self.state = reading.noted.get("state")
        self.steps.append(reading.text)

    @property
    def worth(self) -> float | None:
        """In [0, 1]; None where nobody knows."""
        if self.fault is not None:
            return None
        if self.score is None:
            return 0.0
        return min(1.0, max(0.0, self.score.value)) if fault_of(self.score) is None else None


def _outcome(rollouts: Sequence[_Rollout]) -> Score:
    """The score of a chain from its rollouts, with all that they have cost."""
    known = [worth for one in rollouts if (worth := one.worth) is not None]
    judged = [one.score for one in rollouts if one.score is not None]
    faults = [one.fault for one in rollouts] + [fault_of(score) for score in judged]
    return Score(
        math.fsum(known) / len(known) if known else 0.0,
        prompt_tokens=sum(one.prompt_tokens for one in rollouts) + sum(one.prompt_tokens for one in judged),
        error=None if known else "; ".join(dict.fromkeys(fault for fault in faults if fault)),
        tokens=sum(one.tokens for one in rollouts) + sum(one.tokens for one in judged),
        calls=sum(one.calls for one in rollouts) + sum(one.calls for one in judged),
    )


def _state(candidate: Candidate, steps: Steps) -> str | None:
    """The checker's state behind a chain; None without a checker."""
    state = None
    for step in candidate.steps if steps.check is not None else ():
        assert steps.check is not None
        state = steps.check(question_to(candidate), state, step).state
    return state
