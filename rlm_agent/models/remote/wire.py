"""What goes to a server and what comes back, before and after it is spelled in the server's own way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rlm_agent.models.continuing import Continuation
from rlm_agent.models.protocols import Completion, Finish, Message, Request
from rlm_agent.models.remote.faults import Fleeting

SEEDS = 2**31
"""Servers take seeds below it; longer ones are taken modulo this."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request and the prompt for it: tokens or a text to continue, or `messages` of a conversation.

    `partial` tells that the last message is to be continued. `samples` are asked for at once; `logprobs` is
    how many alternatives a token are wanted, None for no log-probabilities at all.
    """

    request: Request
    model: str
    prompt: tuple[int, ...] | str | None = None
    messages: tuple[Message, ...] = ()
    partial: bool = False
    samples: int = 1
    stream: bool = False
    logprobs: int | None = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """The server's own count of tokens: in the whole prompt, those of them that it had cached, generated."""

    prompt: int
    cached: int
    generated: int


@dataclass(frozen=True, slots=True)
class Part:
    """An answer, or a piece of a streamed one: text, and the log-probabilities of its tokens.

    `alternatives` are the likeliest texts at each token with their log-probabilities, where asked for.
    `finish` stands in the last piece. `usage` is that of all samples together.
    """

    text: str = ""
    logprobs: tuple[float, ...] = ()
    alternatives: tuple[dict[str, float], ...] = ()
    finish: Finish | None = None
    usage: Usage | None = None


class Dialect(Protocol):
    """How a kind of server wants to be asked, and how it answers."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def tells(self) -> bool:
        """Whether it tells an end by a stop from the end of the answer; else streams are cut here."""

    @property
    def tokens(self) -> bool:
        """Whether prompts may be token ids."""

    @property
    def alternatives(self) -> int:
        """How many alternatives to a token it names at most."""

    @property
    def continues(self) -> bool:
        """Whether it goes on with a conversation whose last message is the assistant's."""

    def body(self, ask: Ask) -> tuple[str, dict[str, Any]]:
        """The path, and what is sent there."""

    def parts(self, said: Any, ask: Ask) -> Sequence[Part]:
        """What an answer or an event says, one part a sample; raises whatever it likes for other shapes."""


@dataclass(slots=True)
class Heard:
    """What has come of a request so far; `whole` tells that its end has."""

    text: Continuation
    logprobs: list[float] = field(default_factory=list)
    pieces: int = 0
    finish: Finish | None = None
    usage: Usage | None = None

    @classmethod
    def of(cls, ask: Ask) -> "Heard":
        """Of a request of which nothing has come. A model that is asked to go on may repeat itself."""
        request, repeats = ask.request, ask.prompt is None and not ask.partial
        return cls(Continuation(request.prefix, (*request.stop, *request.end_tokens), repeats))

    def take(self, part: Part) -> bool:
        """Take some more; whether a stop has come, behind which nothing is wanted."""
        self.logprobs += part.logprobs
        self.pieces += bool(part.text)
        self.finish = part.finish or self.finish
        self.usage = part.usage or self.usage
        return self.text.add(part.text)

    def completion(self, request: Request, tokens: int | None = None) -> Completion:
        """The completion; `Fleeting` where neither a stop nor the server's word ended it.

        Tokens are the given number, or the server's count; of a stream that was left, as many as it gave
        log-probabilities of, or pieces of text.
        """
        text, stopped = self.text.cut()
        if self.finish is None and not stopped:
            raise Fleeting("an answer without an end")
        usage = self.usage or Usage(0, 0, len(self.logprobs) or max(self.pieces, 1))
        return Completion(
            text=text,
            tokens=usage.generated if tokens is None else tokens,
            logprob=sum(self.logprobs),
            finish="stop" if stopped else self.finish or "end",
            prompt_tokens=max(0, usage.prompt - usage.cached),
            cached_tokens=min(usage.cached, usage.prompt),
        )
