"""What a search asks of its models: a policy that writes, a value that judges.

Both take batches and come in two colours, plain and async; `drive.py` lets one body of code serve both.
"""

from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypedDict, TypeGuard, runtime_checkable


class Message(TypedDict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are drawn: temperature 0 is greedy.

    The cuts apply in the order top-k, top-p, min-p, and before the temperature, as in llama.cpp: a high
    temperature then levels what the model thinks possible without letting nonsense in.

    Before the cuts, `logit_bias` is added to the logits of (token id, bias) pairs, and what stands among the
    last `penalized` generated tokens is made less likely: its logit is divided by `repeat_penalty` where
    positive and multiplied where negative (Keskar et al., arXiv 1909.05858), then lowered by
    `presence_penalty` once and by `frequency_penalty` for each time it stands there.

    `grammar`, in GBNF, is what the whole text has to be; `stop_tokens` are ids that end it.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalized: int = 64
    logit_bias: tuple[tuple[int, float], ...] = ()
    stop_tokens: tuple[int, ...] = ()
    grammar: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """Continue the assistant's turn that `prefix` has begun, in answer to `messages`.

    Generation ends at any of `stop` (which is not part of the text), at the model's own end, or after
    `max_tokens`. `seed` alone decides the random draws. `thought` is the id of the thought to be, which
    `operator` asks for; of an `aside`, such as a critique, it is the thought that is spoken about.

    `stop_tokens` are those of `stop` that are texts of special tokens: the token stops as well as its text,
    and in `prefix` the text stands for the token. `end_tokens` are texts of special tokens that end the whole
    answer, as the model's own end does. A policy whose model lacks one of them raises `InputError`.

    `alternatives` asks for a `Trace` with so many alternatives a token, 0 for one without any. `code`, a
    number in [0, 1), makes n siblings differ: with codes spread evenly they divide the distribution over
    texts among themselves (arithmetic sampling, Vilnis et al., arXiv 2210.15458), and only what the code
    leaves undecided is drawn by the seed.

    `calls` bounds what a `Composite` policy makes of the request; `max_tokens` bounds all that it generates.
    """

    messages: tuple[Message, ...]
    prefix: str
    max_tokens: int
    seed: int
    stop: tuple[str, ...] = ()
    decoding: Decoding = field(default_factory=Decoding)
    thought: str | None = None
    alternatives: int | None = None
    code: float | None = None
    stop_tokens: tuple[str, ...] = ()
    end_tokens: tuple[str, ...] = ()
    calls: int = 1
    operator: str = "generate"
    aside: bool = False


Finish = Literal["stop", "end", "length", "error"]
"""A stop string or token, the model's own end, the token limit, or an error that spared the others."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What the model thought of each generated token, in order; natural logarithms throughout.

    `logprobs` at temperature 1 without cuts; `entropies` and `varentropies` (the variance of the surprisal)
    of the same distributions, in nats and nats²; `alternatives` are its likeliest tokens with their
    log-probabilities, the likeliest first.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    varentropies: tuple[float, ...]
    alternatives: tuple[tuple[tuple[int, float], ...], ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back for one request.

    `tokens` counts generated tokens with the one that ended it; `logprob` is the natural logarithm of
    their joint probability at temperature 1. Prompt tokens are those computed for this request and those
    taken from a cache; the first of several requests with one prompt pays for all. `interval` is
    where a text lies among all texts in [0, 1): its beginning, and its length, which is its probability as it
    was drawn. Any code within it would have brought the same text; None where the request had no code.
    `calls` counts the model calls that it took: a policy that searches takes more than one.
    """

    text: str
    tokens: int
    logprob: float
    finish: Finish
    prompt_tokens: int = 0
    cached_tokens: int = 0
    error: str | None = None
    trace: Trace | None = None
    interval: tuple[float, float] | None = None
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chain of steps to be valued: the conversation, and the assistant's turn so far.

    `steps` are the texts without delimiters, `final` tells whether the chain has ended.
    """

    messages: tuple[Message, ...]
    steps: tuple[str, ...]
    final: bool


@dataclass(frozen=True, slots=True)
class Score:
    """A probability in [0, 1] that the chain leads, or has led, to a right answer; and its cost.

    `tokens` were generated for it, in so many `calls`.
    """

    value: float
    prompt_tokens: int = 0
    error: str | None = None
    tokens: int = 0
    calls: int = 1


@runtime_checkable
class Policy(Protocol):
    """A model that writes steps."""

    @property
    def identity(self) -> str:
        """What decides its output beside the request: model, version, kernel; stored with a run."""

    @property
    def task(self) -> str | None:
        """The only task that a specialist knows; None for a general model."""

    @property
    def decoding(self) -> Decoding:
        """How its tokens are best drawn, unless the caller says otherwise."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; a request that fails comes back with `finish='error'`."""

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        """The same without blocking the event loop."""


class Piece(NamedTuple):
    """Some more text of a completion, and the index of its request; it is sure to be part of it."""

    request: int
    text: str


@runtime_checkable
class Streaming(Protocol):
    """A policy that tells what it writes while it writes it.

    What comes last are the completions, as `generate` returns them; the pieces of one whose `finish` is not
    an error make up its text. Leaving the iteration ends the generation.
    """

    def stream(self, requests: Sequence[Request]) -> Generator[Piece | list[Completion]]:
        """The pieces of all completions as they come, then the completions."""

    def astream(self, requests: Sequence[Request]) -> AsyncGenerator[Piece | list[Completion]]:
        """The same without blocking the event loop."""


@runtime_checkable
class Caching(Protocol):
    """A policy that keeps what it has computed of a conversation, for whoever continues it."""

    def release(self, messages: Sequence[Message], dead: Sequence[tuple[str, str]]) -> None:
        """Nobody will continue the assistant's turn from these prefixes: all beyond their parents can go.

        Each is given with the prefix that it continues, which may itself be continued by others.
        """


@runtime_checkable
class Value(Protocol):
    """A model that judges chains of steps."""

    @property
    def identity(self) -> str:
        """What decides its output beside the candidate; stored with a run."""

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score a candidate, in order."""

    async def ascore(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The same without blocking the event loop."""


@runtime_checkable
class Composite(Protocol):
    """A model that is more than one look at a model: what one completion or score of it takes at most."""

    @property
    def most_calls(self) -> int:
        """How many model calls one takes at most."""

    @property
    def most_tokens(self) -> int:
        """How many tokens are generated for one at most."""


def is_composite(model: object) -> TypeGuard[Composite]:
    """Whether a model is a `Composite`, asked in every round: `isinstance` takes far longer to say so."""
    return hasattr(model, "most_calls") and hasattr(model, "most_tokens")


@runtime_checkable
class Preference(Protocol):
    """A model that compares chains of steps, two at a time."""

    @property
    def identity(self) -> str:
        """What decides its output beside the pair; stored with a run."""

    def prefer(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Score]:
        """The probability that the first of a pair is better than the second; one score a pair, in order."""

    async def aprefer(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Score]:
        """The same without blocking the event loop."""
