"""Nested structures: a reasoner as the policy or as the value of another one (blueprint §1).

What the outer search asks for, an inner search finds, behind the steps that are there already.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from rlm_agent.graphs.machine.inner import Asked, Create, Found, Inner, grown
from rlm_agent.models.drive import adrive, ask_value, drive
from rlm_agent.models.protocols import Candidate, Completion, Request, Score, Value
from rlm_agent.models.values import VerifierValue, most_of
from rlm_agent.operators.backpropagate import expected_value
from rlm_agent.operators.select import best
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.ids import derive_seed
from rlm_agent.structure.thoughts import ThoughtGraph

By = Literal["share", "verified", "best"]


class ReasonerPolicy:
    """A policy whose next step is found by a search: the first step of the best chain from there.

    Without an end that is accepted, that is the chain to the step of the highest `expected_value`. With
    `whole`, the completion is all of the best chain that came to an end, for an outer search over whole
    solutions. One completion takes up to `tokens` and `calls`, no more than the inner reasoner's own budget
    and what the outer one has left, and counts all that it took. Seconds of the outer budget bound the outer
    calls alone: give the inner reasoner seconds of its own. How the outer search draws tokens has no effect.

    `create` makes the inner reasoner, once. A search that finds nothing, or is refused, is an error
    completion with its reason; what its models raise is raised. Raises `InputError` for bounds below 1, and
    for a graph that is no search over thoughts.
    """

    def __init__(self, create: Create, *, whole: bool = False, tokens: int = 500, calls: int = 50) -> None:
        self._inner, self._whole = Inner(create, tokens, calls), whole
        policy = self._inner.nodes.parts.policy
        self.task, self.decoding = policy.task, policy.decoding
        self.most_tokens, self.most_calls = self._inner.tokens, self._inner.calls
        self.identity = f"ReasonerPolicy({self._inner.identity};{whole})"

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order, all searched for at once."""
        return self._completions(self._inner.search([self._asked(request) for request in requests]))

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        """The same without blocking the event loop."""
        return self._completions(await self._inner.asearch([self._asked(one) for one in requests]))

    def _asked(self, request: Request) -> Asked:
        gap = request.stop[0] if request.stop else ""
        given = request.prefix.split(gap)[:-1] if gap else [request.prefix] if request.prefix else []
        question = self._inner.question(
            request.messages, given, request.seed, request.max_tokens, request.calls
        )
        return question, request.thought

    def _completions(self, states: Sequence[Found]) -> list[Completion]:
        return [
            Completion("", 0, 0.0, "error", error=str(state), calls=0)
            if isinstance(state, InputError)
            else self._completion(state)
            for state in states
        ]

    def _completion(self, state: dict[str, Any]) -> Completion:
        graph, usage = grown(state), state["usage"]
        chain = self._chain(graph, state)
        last = graph.thoughts[chain[-1]] if chain else None
        delimiter = self._inner.nodes.parts.steps.granularity.delimiter
        return Completion(
            text=delimiter.join(graph.thoughts[id]["text"] for id in chain),
            tokens=usage["completion_tokens"],
            logprob=math.fsum(graph.thoughts[id]["logprob"] for id in chain),
            finish="error" if last is None else "end" if last["kind"] == "final" else "stop",
            prompt_tokens=usage["prompt_tokens"],
            cached_tokens=usage["cached_tokens"],
            error=None if chain else f"the inner search found nothing (stopped: {state['run']['stopped']})",
            calls=usage["model_calls"],
        )

    def _chain(self, graph: ThoughtGraph, state: dict[str, Any]) -> list[str]:
        """The thoughts whose texts are the completion; none where nothing was found."""
        end, accepted = state["run"]["best"], state["run"]["verified"] is not False
        if self._whole:
            return graph.chain(end) if end is not None else []
        if end is None or not accepted:
            steps = [id for id in graph.walk() if graph.thoughts[id]["kind"] == "step"]
            end = best(graph, steps, expected_value) or end
        return graph.chain(end)[:1] if end is not None else []


class ReasonerValue:
    """A chain is worth what a search from its steps makes of it.

    by: the `share` of the chains that came to an end, failures included, whose answers the inner reasoner's
        verifier accepts; 1 where any is `verified`, else 0; or the value of the `best` end. To the first and
        the last, a search that came to no end is an error. A chain that has ended already is judged by the
        verifier, or by the inner reasoner's value.
    tokens, calls: what one score may take at most, and no more than the inner reasoner's own budget.

    `create` makes the inner reasoner, once. Raises `InputError` for bounds below 1, for a graph that is no
    search over thoughts, and where nobody judges its answers.
    """

    def __init__(
        self, create: Create, *, by: By = "share", tokens: int = 500, calls: int = 50, seed: int = 0
    ) -> None:
        if by not in _WORTHS:
            raise UnknownNameError(f"no chain is valued by {by!r}; choose one of {', '.join(_WORTHS)}")
        self._inner, self._worth, self._seed = Inner(create, tokens, calls), _WORTHS[by], seed
        self._ends = self._judge(by)
        calls_of_end, tokens_of_end = most_of(self._ends)
        self.most_calls = max(self._inner.calls, calls_of_end)
        self.most_tokens = max(self._inner.tokens, tokens_of_end)
        self.identity = f"ReasonerValue({self._inner.identity};{by},{seed})"

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate, in order."""
        ended = drive(ask_value(self._ends, [one for one in candidates if one.final]))
        searched = self._inner.search([self._asked(one) for one in candidates if not one.final])
        return self._scores(candidates, ended, searched)

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same without blocking the event loop."""
        ended = await adrive(ask_value(self._ends, [one for one in candidates if one.final]))
        searched = await self._inner.asearch([self._asked(one) for one in candidates if not one.final])
        return self._scores(candidates, ended, searched)

    def _judge(self, by: str) -> Value:
        """Who judges chains that have ended."""
        parts = self._inner.nodes.parts
        if parts.verifier is not None:
            return VerifierValue(parts.verifier, parts.steps)
        if by != "best" or parts.value is None:
            raise InputError(
                f"nobody tells the inner reasoner what it has found by {by!r}; give it a verifier, "
                "or a value and by='best'"
            )
        return parts.value

    def _asked(self, candidate: Candidate) -> Asked:
        seed = derive_seed(self._seed, repr((candidate.messages, candidate.steps)))
        inner = self._inner
        question = inner.question(candidate.messages, candidate.steps, seed, inner.tokens, inner.calls)
        return question, None

    def _scores(
        self, candidates: Sequence[Candidate], ended: Sequence[Score], searched: Sequence[Found]
    ) -> list[Score]:
        ends, states = iter(ended), iter(searched)
        missing = Score(0.0, error="the value sent too few scores")
        return [next(ends, missing) if one.final else self._score(next(states)) for one in candidates]

    def _score(self, state: Found) -> Score:
        if isinstance(state, InputError):
            return Score(0.0, error=str(state), calls=0)
        graph, usage = grown(state), state["usage"]
        worth = self._worth(graph, state["run"]["best"])
        return Score(
            worth or 0.0,
            prompt_tokens=usage["prompt_tokens"],
            error=f"no end was found (stopped: {state['run']['stopped']})" if worth is None else None,
            tokens=usage["completion_tokens"],
            calls=usage["model_calls"],
        )


def _share(graph: ThoughtGraph, end: str | None) -> float | None:
    ended = [id for id in graph.walk() if graph.thoughts[id]["kind"] in ("final", "failed")]
    return sum(_accepted(graph, id) for id in ended) / len(ended) if ended else None


def _verified(graph: ThoughtGraph, end: str | None) -> float | None:
    return float(any(_accepted(graph, id) for id in graph.finals()))


def _best(graph: ThoughtGraph, end: str | None) -> float | None:
    return None if end is None else graph.stats[end]["value"]


_WORTHS: dict[str, Callable[[ThoughtGraph, str | None], float | None]] = {
    "share": _share,
    "verified": _verified,
    "best": _best,
}


def _accepted(graph: ThoughtGraph, id: str) -> bool:
    return graph.thoughts[id]["kind"] == "final" and graph.stats[id]["value"] == 1.0
