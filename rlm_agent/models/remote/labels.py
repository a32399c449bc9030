"""A label's probability by a server's log-probabilities: asked in words, or in a reward model's format."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlm_agent.models.gguf.engine.jobs import Job, Result, Tokens
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.gguf.values.formats import PRMFormat, PRMValue
from rlm_agent.models.gguf.values.labels import YES_NO, Labels
from rlm_agent.models.gguf.values.readings import LabelReading
from rlm_agent.models.protocols import Candidate, Decoding, Message, Request, Score
from rlm_agent.models.remote import loop
from rlm_agent.models.remote.batch import Batch
from rlm_agent.models.remote.policy import RemotePolicy
from rlm_agent.models.remote.wire import Ask, Part, Usage
from rlm_agent.structure.errors import InputError, UnansweredError

_GREEDY = Decoding(temperature=0.0)
_UNTOLD = "neither label is among the likeliest tokens that the server names; choose others"


class RemoteLabelValue:
    """P(good) / (P(good) + P(bad)) of what a model at a server, asked, would begin its answer with.

    Probabilities are those of the tokens that the server names which begin a label. If it names only one
    label, the other counts as likely as the least likely token it names; so a value is never more
    certain than what was told. A server that names neither, or gave no answer, makes an error of a score.
    Raises what the policy raises, and `InputError` for a server without log-probabilities.
    """

    most_calls = 1
    most_tokens = 1

    def __init__(self, policy: RemotePolicy, labels: Labels = YES_NO) -> None:
        self.policy = policy
        self.labels = labels
        self.identity = f"{policy.identity}:label={labels.identity}"

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate, in order."""
        return loop.run(self._all(candidates)) if candidates else []

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same without blocking the event loop."""
        return await loop.arun(self._all(candidates)) if candidates else []

    async def _all(self, candidates: Sequence[Candidate]) -> list[Score]:
        requests = [_look(self.labels.messages(candidate)) for candidate in candidates]
        parts = await _parts(self.policy, requests)
        return [self._score(part) for part in parts]

    def _score(self, part: Part | UnansweredError) -> Score:
        if isinstance(part, UnansweredError):
            return Score(0.0, error=str(part))
        usage = part.usage or Usage(0, 0, 1)
        computed = max(0, usage.prompt - usage.cached)
        value = label_value(part.alternatives[0] if part.alternatives else {}, self.labels)
        error = _UNTOLD if value is None else None
        return Score(value or 0.0, computed, error, tokens=usage.generated)


def label_value(told: Mapping[str, float], labels: Labels) -> float | None:
    """The good label's share, of log-probabilities by text; None where neither label is among them."""
    shares = {"good": 0.0, "bad": 0.0}
    for text, logprob in told.items():
        begun = text.strip()
        fits = [side for side in shares if begun and getattr(labels, side).startswith(begun)]
        if len(fits) == 1:
            shares[fits[0]] += math.exp(logprob)
    if not any(shares.values()):
        return None
    least = math.exp(min(told.values()))
    good, bad = (share or least for share in shares.values())
    return good / (good + bad)


def remote_reward_model(policy: RemotePolicy, format: PRMFormat) -> PRMValue:
    """A process reward model that answers with a label, in its own format, at a server.

    Raises `InputError` for a policy without a `tokenizer`: the prompt has to be the very tokens.
    """
    if policy.local is None or format.labels is None:
        raise InputError(
            "a reward model's format is laid out in tokens; name the file of its vocabulary behind the URL, "
            "as in #tokenizer=FILE"
        )
    file = policy.local.file
    reading = LabelReading.of(file, *format.labels)
    return PRMValue(_AtServer(policy, file, _Looker(policy, file, reading)), format)


@dataclass(frozen=True, slots=True)
class _Looker:
    """What an engine offers to values (`Looker`), by a server: the logits of two tokens."""

    policy: RemotePolicy
    file: ModelFile
    labels: LabelReading

    def complete(self, jobs: Sequence[Job]) -> list[Result]:
        return loop.run(self._all(jobs))

    async def acomplete(self, jobs: Sequence[Job]) -> list[Result]:
        return await loop.arun(self._all(jobs))

    async def _all(self, jobs: Sequence[Job]) -> list[Result]:
        parts = await _parts(self.policy, [_look(()) for _ in jobs], [job.prompt for job in jobs])
        return [self._result(part) for part in parts]

    def _result(self, part: Part | UnansweredError) -> Result:
        if isinstance(part, UnansweredError):
            return Result(error=str(part), finish="error")
        told = part.alternatives[0] if part.alternatives else {}
        texts = {self.file.piece(token).decode(): token for token in (self.labels.good, self.labels.bad)}
        named = {texts[text]: logprob for text, logprob in told.items() if text in texts}
        if not named:
            return Result(error=_UNTOLD, finish="error")
        logits = np.full(self.file.size, min(told.values()), np.float32)
        for token, logprob in named.items():
            logits[token] = logprob
        usage = part.usage or Usage(0, 0, 1)
        return Result(logits=logits, computed=usage.prompt - usage.cached, cached=usage.cached)


@dataclass(frozen=True, slots=True)
class _AtServer:
    """A remote model in the place of one in this process (`LocalPolicy`)."""

    policy: RemotePolicy
    file: ModelFile
    engine: _Looker
    adapter: str | None = None

    @property
    def identity(self) -> str:
        return self.policy.identity

    def prompt(self, messages: Sequence[Message], prefix: str) -> Tokens:
        assert self.policy.local is not None
        return self.policy.local.written(messages, prefix)


def _look(messages: tuple[Message, ...]) -> Request:
    return Request(messages, "", max_tokens=1, seed=0, decoding=_GREEDY)


async def _parts(
    policy: RemotePolicy, requests: Sequence[Request], prompts: Sequence[Tokens] | None = None
) -> list[Part | UnansweredError]:
    """What stands behind each prompt, with as many alternatives as the server names."""
    server = await policy.server()
    if not server.logprobs:
        raise InputError(f"{policy.client.address.shown} gives no log-probabilities; take another value")
    batch = Batch(policy.client, server, requests)

    async def one(index: int) -> Part | UnansweredError:
        request, most = requests[index], server.dialect.alternatives
        asked = await batch.ask(request) if prompts is None else Ask(request, server.model, prompts[index])
        ask = Ask(request, server.model, asked.prompt, asked.messages, logprobs=most)
        path, body = server.dialect.body(ask)
        try:
            return await policy.client.post(path, body, lambda said: server.dialect.parts(said, ask)[0])
        except UnansweredError as error:
            return error

    found = await asyncio.gather(*(one(index) for index in range(len(requests))))
    failed = [one for one in found if isinstance(one, UnansweredError)]
    if failed and len(failed) == len(found):
        raise failed[0]
    return list(found)
