"""Models that think nothing, for tests of algorithms and of apps: scripted, deterministic, counted."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from rlm_agent.models.protocols import Candidate, Completion, Decoding, Request, Score, Trace

Reply = tuple[str, float] | tuple[str, float, bool]
"""A step's text, its log-probability and, True if the answer ends with it, False by default."""

Script = Callable[[str, str], Sequence[Reply]]
"""From the question and the assistant's turn so far to the steps that the policy may write next."""


class FakePolicy:
    """A policy that draws from a script.

    The script's replies are weighted by the exponential of their log-probability, and the draw depends on
    the request's code, or else its seed, alone; `cycle=True` takes them in turn instead, whatever their
    weight. A token is a word, and the end mark is one more. A trace, where one is asked for, tells that the
    first token decides among the replies, and that nothing is left to doubt after it. `requests` holds what
    was asked. `fails` maps a call's number, from 0, to an error that this call alone comes back with.
    """

    identity = "fake"
    decoding = Decoding()

    def __init__(
        self,
        script: Script,
        *,
        cycle: bool = False,
        task: str | None = None,
        fails: Mapping[int, str] | None = None,
    ) -> None:
        self.task = task
        self.requests: list[Request] = []
        self._script = script
        self._cycle = cycle
        self._fails = fails or {}
        self._turns: dict[str, int] = {}
        self._lock = threading.Lock()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One scripted completion a request."""
        with self._lock:
            return [self._complete(request) for request in requests]

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        """The same; nothing here blocks."""
        return self.generate(requests)

    def _complete(self, request: Request) -> Completion:
        number = len(self.requests)
        self.requests.append(request)
        if number in self._fails:
            return Completion("", 0, 0.0, "error", error=self._fails[number])
        question = request.messages[-1]["content"]
        replies = self._script(question, request.prefix)
        index, interval = self._pick(request, replies)
        text, logprob, *end = replies[index]
        words = text.split()
        prompt = len(question.split()) + len(request.prefix.split())
        if len(words) + 1 > request.max_tokens:
            cut = " ".join(words[: request.max_tokens])
            spent, finish = request.max_tokens, "length"
        else:
            cut, spent, finish = text, len(words) + 1, "end" if end and end[0] else "stop"
        return Completion(
            cut,
            spent,
            logprob,
            finish,  # type: ignore[arg-type]
            prompt_tokens=prompt,
            trace=None if request.alternatives is None else _traced(replies, index, spent),
            interval=interval,
        )

    def _pick(self, request: Request, replies: Sequence[Reply]) -> tuple[int, tuple[float, float] | None]:
        """The place of a reply, and its interval where a code chose it."""
        if self._cycle:
            turn = self._turns.get(request.prefix, 0)
            self._turns[request.prefix] = turn + 1
            return turn % len(replies), None
        if request.decoding.temperature == 0:
            return max(range(len(replies)), key=lambda index: replies[index][1]), None
        weights = [math.exp(reply[1]) for reply in replies]
        total = math.fsum(weights)
        point = (request.seed / 2**63 if request.code is None else request.code) * total
        ends = list(accumulate(weights))
        index = next((index for index, end in enumerate(ends) if point < end), len(replies) - 1)
        interval = ((ends[index] - weights[index]) / total, weights[index] / total)
        return index, None if request.code is None else interval


def _traced(replies: Sequence[Reply], index: int, tokens: int) -> Trace:
    """The trace of one of the replies, so many tokens of it; a token's id is the reply's place."""
    weights = [math.exp(reply[1]) for reply in replies]
    total = math.fsum(weights)
    surprisals = [-math.log(weight / total) for weight in weights]
    shares = [weight / total for weight in weights]
    entropy = math.fsum(map(math.prod, zip(shares, surprisals, strict=True)))
    spread = [(surprisal - entropy) ** 2 for surprisal in surprisals]
    varentropy = math.fsum(map(math.prod, zip(shares, spread, strict=True)))
    rest = (0.0,) * (tokens - 1)
    logprobs, entropies = (-surprisals[index], *rest), (entropy, *rest)
    return Trace((index,) * tokens, logprobs, entropies, (varentropy, *rest), ((),) * tokens)


class FakeValue:
    """A value model that is a function from the steps of a chain to a number in [0, 1]."""

    identity = "fake-value"

    def __init__(self, score: Callable[[Sequence[str]], float]) -> None:
        self.candidates: list[Candidate] = []
        self._score = score

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate."""
        self.candidates += candidates
        return [Score(self._score(candidate.steps)) for candidate in candidates]

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same; nothing here blocks."""
        return self.score(candidates)
