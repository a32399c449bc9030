"""Values from models that write nothing: vLLM's pooling, classify and score, and rerankers.

Read in the documents and sources of vLLM 0.11 to 0.16, which was not tried live; `/v1/rerank` is llama.cpp's,
Jina's and Cohere's as well.
"""

import asyncio
import math
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from rlm_agent.models.gguf.values.formats import PRMFormat
from rlm_agent.models.patterns import question_of
from rlm_agent.models.protocols import Candidate, Message, Score
from rlm_agent.models.remote import loop
from rlm_agent.models.remote.address import address_of, options_of
from rlm_agent.models.remote.client import Client, Patience
from rlm_agent.structure.errors import InputError, UnansweredError, UnknownNameError
from rlm_agent.structure.ids import fingerprint


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server judges a chain: what is sent there, and what of the answer is the value."""

    path: str
    body: Callable[[Candidate, PRMFormat | None], dict[str, Any]]
    read: Callable[[Any], Any]


class PooledValue:
    """What a model at `url` makes of a question and a chain, by one of `ENDPOINTS`.

    format: how a process reward model wants the chain laid out, for `pooling`; its score is that of the last
        step. Where a step holds the model's tag, a space is put in it.
    squash: whether scores are logits, which a sigmoid makes probabilities of, as of llama.cpp's rerankers and
        of reward models of one output. Otherwise a score that is no probability makes an error.

    The other keywords are those of `RemotePolicy`. Of several classes the last is the good one.
    Raises `UnknownNameError` for an endpoint that is none, and what `Client` raises.
    """

    def __init__(
        self,
        url: str,
        endpoint: str,
        *,
        format: PRMFormat | None = None,
        squash: bool = False,
        model: str | None = None,
        api_key: str | SecretStr | None = None,
        concurrency: int = 64,
        patience: Patience | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        if endpoint not in ENDPOINTS:
            raise UnknownNameError(f"there is no endpoint {endpoint!r}; use {', '.join(ENDPOINTS)}")
        plain, options = options_of(url)
        address = address_of(plain, api_key)
        self.client = Client(address, patience or Patience(), concurrency, verify)
        self._endpoint = ENDPOINTS[endpoint]
        self._format = format
        self._squash = squash or "squash" in options
        self._model = model or options.get("model")
        told = fingerprint(endpoint, format and format.identity, self._squash)
        self.identity = f"remote:{address.shown}:{self._model or 'default'}:{told}"

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate, in order."""
        return loop.run(self._all(candidates))

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same without blocking the event loop."""
        return await loop.arun(self._all(candidates))

    def close(self) -> None:
        """Close all connections."""
        loop.run(self.client.close())

    async def _all(self, candidates: Sequence[Candidate]) -> list[Score]:
        return list(await asyncio.gather(*map(self._one, candidates)))

    async def _one(self, candidate: Candidate) -> Score:
        if not candidate.steps:
            return Score(0.0, error="the chain has no step that a reward model could score; add one")
        body = self._endpoint.body(candidate, self._format)
        body |= {"model": self._model} if self._model is not None else {}
        try:
            return await self.client.post(self._endpoint.path, body, self._score)
        except (UnansweredError, InputError) as error:
            return Score(0.0, error=str(error))

    def _score(self, said: Any) -> Score:
        number = float(self._endpoint.read(said))
        value = 0.5 * (1 + math.tanh(0.5 * number)) if self._squash else number
        used = (said.get("usage") or {}).get("prompt_tokens") or 0
        if not 0 <= value <= 1:
            return Score(
                0.0, int(used), f"the score {number} is no probability; use squash, if it is a logit"
            )
        return Score(value, int(used))


def _chat(candidate: Candidate, format: PRMFormat | None) -> dict[str, Any]:
    """The conversation with the chain as the assistant's turn, laid out as the format says."""
    tag = format.tag if format is not None else None
    if format is None or tag is None:
        text, messages = "\n".join(candidate.steps), candidate.messages
    else:
        mark = tag.strip()
        # The text of a user or a policy cannot forge the model's tag.
        clean = [step.replace(mark, f"{mark[:1]} {mark[1:]}") if mark else step for step in candidate.steps]
        text = "".join(f"{format.between if i else format.first}{step}{tag}" for i, step in enumerate(clean))
        messages = format.messages(candidate) or candidate.messages
    turns: list[Mapping[str, Any]] = [*messages, Message(role="assistant", content=text)]
    return {"messages": [dict(turn) for turn in turns]}


def _pair(candidate: Candidate, format: PRMFormat | None) -> dict[str, Any]:
    return {"text_1": question_of(candidate.messages), "text_2": "\n".join(candidate.steps)}


def _query(candidate: Candidate, format: PRMFormat | None) -> dict[str, Any]:
    return {"query": question_of(candidate.messages), "documents": ["\n".join(candidate.steps)]}


def _last(told: Any) -> Any:
    """The last number of what may be a list of classes, of tokens, or of tokens with classes."""
    while isinstance(told, list):
        told = told[-1]
    return told


ENDPOINTS = {
    "pooling": Endpoint("/pooling", _chat, lambda said: _last(said["data"][0]["data"])),
    "classify": Endpoint("/classify", _chat, lambda said: _last(said["data"][0]["probs"])),
    "score": Endpoint("/score", _pair, lambda said: said["data"][0]["score"]),
    "rerank": Endpoint("rerank", _query, lambda said: said["results"][0]["relevance_score"]),
}
"""By the names that `load_value` takes in front of a URL."""
