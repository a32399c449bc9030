"""What the engine is asked, and what it answers, in tokens."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.protocols import Decoding, Finish, Trace

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """Continue `prompt` by up to `max_tokens` tokens; with 0, only look at what stands after it.

    `stops` are texts that end the generation, `ends` whether the model's own end does. `alternatives` and
    `code` are those of `Request`. With `hidden` the hidden state after the prompt's last token comes back.
    `adapter` names the LoRA adapter in force.
    """

    prompt: Tokens
    max_tokens: int
    seed: int = 0
    decoding: Decoding = field(default_factory=Decoding)
    stops: tuple[bytes, ...] = ()
    ends: bool = True
    alternatives: int | None = None
    code: float | None = None
    hidden: bool = False
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a job.

    `computed` and `cached` divide the tokens of the prompt; `tokens` are those generated, with the one that
    ended it, `text` their bytes. `logits` [vocabulary] and `hidden` [width], in single precision, stand after
    the prompt's last token: the first for a job of no tokens, the second where it was asked for. A job that
    failed has `error`, and `finish` says so. `interval`, of a job with a code, is that of `Completion`.
    """

    tokens: Tokens = ()
    text: bytes = b""
    logprob: float = 0.0
    finish: Finish = "length"
    computed: int = 0
    cached: int = 0
    trace: Trace | None = None
    logits: NDArray[np.float32] | None = None
    hidden: NDArray[np.float32] | None = None
    error: str | None = None
    interval: tuple[float, float] | None = None
