"""A job under way: what it has fed, what it has drawn, and whether it has ended."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rlm_agent.models.gguf.engine.cells import Row
from rlm_agent.models.gguf.engine.jobs import Job, Result, Tokens
from rlm_agent.models.gguf.engine.nodes import Output
from rlm_agent.models.gguf.sampling.draw import Draw, Floats, uniforms
from rlm_agent.models.gguf.sampling.grammar import Grammar
from rlm_agent.models.gguf.sampling.measures import Measured
from rlm_agent.models.protocols import Finish, Trace

if TYPE_CHECKING:
    from rlm_agent.models.gguf.engine.calls import Call
    from rlm_agent.models.gguf.engine.pieces import Pieces

_FINEST = 2.0**-40
"""Below this width an arithmetic code, in double precision, has no more to say."""

NO_NUMBERS = "the model computes values that are no numbers; download or export it again"
STUCK = "the grammar allows no token of this model here; loosen the grammar"


@dataclass(eq=False, slots=True)
class Stream:
    """One job of a call, from its admission to its result.

    `sequence` holds the first `fed` tokens of the prompt and what was generated; `computed` counts the prompt
    tokens that were fed for it.
    """

    call: "Call"
    index: int
    job: Job
    limit: int
    grammar: Grammar | None = None
    sequence: int = -1
    fed: int = 0
    computed: int = 0
    generated: list[int] = field(default_factory=list)
    text: bytearray = field(default_factory=bytearray)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None
    error: str | None = None
    after_prompt: Output | None = None
    _numbers: Floats = field(init=False)
    _spares: Floats | None = field(default=None, init=False)
    _code: float | None = field(init=False)
    _low: float = field(default=0.0, init=False)
    _width: float = field(default=1.0, init=False)
    _measured: list[tuple[float, float, tuple[tuple[int, float], ...]]] = field(
        default_factory=list, init=False
    )

    def __post_init__(self) -> None:
        self._numbers = uniforms(self.job.seed, self.limit) if self.limit else np.empty(0)
        self._code = self.job.code
        if self.grammar is not None:
            self._spares = uniforms(self.job.seed, 2 * self.limit)[self.limit :]

    @property
    def tokens(self) -> Tokens:
        """The prompt and what was generated."""
        return (*self.job.prompt, *self.generated)

    @property
    def held(self) -> Tokens:
        """The tokens that its sequence holds."""
        return self.tokens[: self.fed]

    @property
    def prefilling(self) -> bool:
        """Whether the output after its prompt is still to be computed."""
        return self.after_prompt is None

    @property
    def missing(self) -> int:
        """How many tokens must be fed before the next one can be drawn."""
        return len(self.job.prompt) + len(self.generated) - self.fed

    def feed(self, most: int) -> list[Row]:
        """Its next rows, at most so many; the last of all that it has wants an output."""
        prompt, first = self.job.prompt, self.fed
        end = len(prompt) + len(self.generated)
        self.fed = min(first + most, end)
        return [
            Row(
                prompt[position] if position < len(prompt) else self.generated[position - len(prompt)],
                position,
                self.sequence,
                position == end - 1,
            )
            for position in range(first, self.fed)
        ]

    def draw(self) -> Draw:
        """What the next token is drawn with."""
        at = len(self.generated)
        spare = 0.0 if self._spares is None else float(self._spares[at])
        number = float(self._numbers[at]) if self._code is None else self._code
        return Draw(self.job.decoding, number, spare, self.generated, self.grammar)

    def note(self, measured: Measured, row: int) -> None:
        """Keep what the trace will tell of the next token."""
        self._measured.append(
            (float(measured.entropies[row]), float(measured.varentropies[row]), measured.alternatives[row])
        )

    def take(self, token: int, logprob: float, rest: float, width: float, pieces: "Pieces") -> None:
        """A token was drawn: add it, and see whether the job ends with it."""
        if math.isnan(logprob) or token < 0:
            self.finish, self.error = "error", STUCK if token < 0 else NO_NUMBERS
            return
        self.generated.append(token)
        self.logprobs.append(logprob)
        if self._code is not None:
            self._low += self._width * max(0.0, self._code - rest * width)
            self._width *= width
            self._code = rest if self._width > _FINEST else None
        if self.grammar is not None:
            self.grammar.accept(token)
        spells = self.grammar is not None and not pieces.ends(token)
        piece = pieces.spelled(token) if spells else pieces[token]
        self.text += piece
        if self.call.heard is not None:
            self.call.heard(self.index, piece)
        self.finish = self._ended(token, len(piece), pieces)

    def _ended(self, token: int, length: int, pieces: "Pieces") -> Finish | None:
        if self.job.ends and pieces.ends(token):
            return "end"
        if token in self.job.decoding.stop_tokens:
            return "stop"
        for stop in self.job.stops:
            if self.text.find(stop, max(0, len(self.text) - length - len(stop))) >= 0:
                return "stop"
        return "length" if len(self.generated) >= self.limit else None

    def result(self) -> Result:
        """What came of the job."""
        output = self.after_prompt
        only_looked = self.job.max_tokens == 0 and output is not None
        return Result(
            tokens=tuple(self.generated),
            text=bytes(self.text),
            logprob=math.fsum(self.logprobs),
            finish=self.finish or "length",
            computed=self.computed,
            cached=len(self.job.prompt) - self.computed if output is not None else 0,
            trace=self._trace() if self.job.alternatives is not None else None,
            logits=output.logits if output is not None and only_looked else None,
            hidden=output.hidden if output is not None and self.job.hidden else None,
            error=self.error,
            interval=(self._low, self._width) if self._follows_code else None,
        )

    @property
    def _follows_code(self) -> bool:
        """Whether all that was drawn followed from the code; what a grammar refused was drawn again."""
        return self.job.code is not None and self.job.decoding.grammar is None

    def _trace(self) -> Trace:
        most = self.job.alternatives or 0
        return Trace(
            tokens=tuple(self.generated),
            logprobs=tuple(self.logprobs),
            entropies=tuple(entropy for entropy, _, _ in self._measured),
            varentropies=tuple(varentropy for _, varentropy, _ in self._measured),
            alternatives=tuple(likeliest[:most] for _, _, likeliest in self._measured),
        )

    def close(self) -> None:
        """Free what the grammar holds."""
        if self.grammar is not None:
            self.grammar.close()
            self.grammar = None
