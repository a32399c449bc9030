"""Where a step ends and where an answer ends, which are two things (blueprint §1, step granularity).

A `StepFormat` is one of `LINE`, `PARAGRAPH`, `EOIS`, `WHOLE`, or made by `delimited`, `special_token`,
`tokens` or `pattern`. An `AnswerEnd` is `MODEL_END`, `BOXED`, or made by `marker` or `end_token`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from rlm_agent.structure.errors import InputError

Ending = Literal["stop", "end", "length"]
"""A text ended at a step's end, at its answer's end, or because its tokens were used up."""

_BRACES = re.compile(r"\\boxed\{|\{|\}")
_BROKEN = "\ufffd"  # what a part of a character decodes to
_REASON = "Reason step by step."
_LINES = {
    "\n": "one short step a line.",
    "\n\n": "one short paragraph a step, with an empty line after each.",
}
_IN_A_BOX = "When you are done, give the answer on a line of its own as \\boxed{answer}"


@dataclass(frozen=True, slots=True)
class StepFormat:
    """One granularity of steps.

    `delimiter` stands after each step in the assistant's turn and belongs to no step; with `token` it is
    the text of a special token. `count` is the number of tokens in a step, a match of `regex` ends a step and
    belongs to it, and `whole` makes one step of the whole solution. `instruction` asks a general model to
    write so. Raises `InputError` unless exactly one of `delimiter`, `count`, `regex`, `whole` is given.
    """

    instruction: str = _REASON
    delimiter: str = ""
    token: bool = False
    count: int | None = None
    regex: re.Pattern[str] | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        ways = (self.delimiter != "", self.count is not None, self.regex is not None, self.whole)
        if sum(ways) != 1:
            raise InputError("a step format needs one of delimiter, count, regex and whole; give exactly one")

    def cut(self, text: str, ending: Ending, tokens: int) -> tuple[str, Ending]:
        """The first step in a generated `text` of so many `tokens`, and how that step ended.

        A block of tokens that breaks off within a character loses its part of it; the next block begins
        with that character anew. An empty match at the very beginning ends no step.
        """
        if self.count is not None and ending == "length" and tokens >= self.count:
            return text.rstrip(_BROKEN), "stop"
        if self.regex is not None:
            end = next((match.end() for match in self.regex.finditer(text) if match.end()), None)
            if end is not None:
                last = ending == "end" and not text[end:].strip()
                return text[:end], "end" if last else "stop"
        return text, ending

    def is_empty(self, step: str) -> bool:
        """Whether a step says nothing; white space does not, but may well be a block of tokens."""
        return not (step if self.count is not None else step.strip())

    def for_answer(self, steps: Sequence[str]) -> list[str]:
        """What an `Answerer` reads: the steps, but lines where steps end anywhere or there is only one."""
        if self.count is None and not self.whole:
            return list(steps)
        return "".join(steps).strip().split("\n")


@dataclass(frozen=True, slots=True)
class AnswerEnd:
    """What ends an answer beside the model's own end.

    The answer ends after a line that begins with `marker` and says something after it, after a complete
    `\\boxed{…}` that is not empty (`boxed`), or with a special token of the text `token`. What the model
    wrote beyond that is dropped. `instruction` asks a general model to write so.
    """

    instruction: str = f"{_IN_A_BOX}."
    marker: str = ""
    boxed: bool = False
    token: str = ""

    @property
    def in_text(self) -> bool:
        """Whether the text tells the end of the answer."""
        return self.boxed or self.marker != ""

    def find(self, text: str, begin: int) -> int | None:
        """Where in the assistant's turn `text` the answer ends, beyond `begin`; None where it does not."""
        lines = marked_line(self.marker).finditer(text) if self.marker else ()
        ends = chain((line.end() for line in lines), _box_ends(text) if self.boxed else ())
        return min((end for end in ends if end > begin), default=None)


def delimited(delimiter: str) -> StepFormat:
    """Steps that end with a text, such as "\\n"; `InputError` for an empty one."""
    if not delimiter:
        raise InputError(
            "an empty delimiter ends no step; give a text such as '\\n', or use tokens(n) or WHOLE"
        )
    return StepFormat(f"Reason step by step, {_LINES.get(delimiter) or _short_steps(delimiter)}", delimiter)


def special_token(text: str) -> StepFormat:
    """Steps that end with a token of the model's vocabulary, such as x1's `<eois>`, named by its text.

    A general model may also spell the text out. Raises `InputError` for an empty text; a policy raises it
    for a token that its model lacks.
    """
    if not text:
        raise InputError("a special token needs its text; give one such as '<eois>'")
    return StepFormat(f"Reason step by step, {_short_steps(text)}", text, token=True)


def tokens(n: int) -> StepFormat:
    """Steps of exactly `n` generated tokens, the last one of a chain excepted; `InputError` below 1.

    What is continued is text, which the model may divide into tokens otherwise than it was generated.
    """
    if type(n) is not int or n < 1:
        raise InputError(f"a step of {n!r} tokens is none; give a whole number of at least 1")
    return StepFormat(count=n)


def pattern(regex: str | re.Pattern[str], instruction: str = _REASON) -> StepFormat:
    """Steps that end after the first match of a regular expression in what is generated.

    No policy stops at a pattern: `max_tokens` are generated and what follows the match is dropped, though
    its tokens count as spent and its log-probability as the step's. The pattern runs on model text without a
    limit of time, so give none that backtracks without end, such as `(a+)+b`. Raises `InputError` for a
    pattern that does not compile or that matches the empty text.
    """
    try:
        compiled = re.compile(regex)
        at_once = compiled.search("") is not None
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{regex!r} is no regular expression for text ({error}); mend the pattern"
        ) from error
    if at_once:
        raise InputError(
            f"{regex!r} matches the empty text, so that no step gets anywhere; ask for at least one character"
        )
    return StepFormat(instruction, regex=compiled)


def marker(text: str) -> AnswerEnd:
    """Answers that end with a line such as `#### 42`, named by its beginning; see `AnswerEnd`.

    `tasks.answers.marked_answer` reads them. Raises `InputError` for a blank marker or one of several lines.
    """
    if not text.strip() or "\n" in text:
        raise InputError(f"{text!r} marks no line; give a text such as '####'")
    return AnswerEnd(
        f'When you are done, give the answer on a line of its own as "{text.strip()} answer".',
        marker=text.strip(),
    )


def end_token(text: str) -> AnswerEnd:
    """Answers that end with a special token, named by its text; `InputError` for an empty one."""
    if not text:
        raise InputError("a special token needs its text; give one such as '</answer>'")
    return AnswerEnd(f"{_IN_A_BOX}, then write {text}.", token=text)


def marked_line(marker: str) -> re.Pattern[str]:
    """Matches a whole line that begins with a marker; its one group is what stands after it."""
    return re.compile(rf"^[^\S\n]*{re.escape(marker)}[^\S\n]*(\S[^\n]*)\n", re.MULTILINE)


def _box_ends(text: str) -> Iterator[int]:
    """Where each `\\boxed{…}` that holds something ends, in one pass."""
    open_boxes: list[int | None] = []
    for brace in _BRACES.finditer(text):
        if brace[0] != "}":
            open_boxes.append(None if brace[0] == "{" else brace.end())
        elif (
            open_boxes and (content := open_boxes.pop()) is not None and text[content : brace.start()].strip()
        ):
            yield brace.end()


def _short_steps(ending: str) -> str:
    shown = ending.strip()
    return f"with short steps. Write {shown} after each of them." if shown else "with short steps."


LINE = delimited("\n")
PARAGRAPH = delimited("\n\n")
EOIS = special_token("<eois>")
"""x1's token for the end of an intermediate step (Besta et al., arXiv 2501.11223)."""
WHOLE = StepFormat(whole=True)
MODEL_END = AnswerEnd()
BOXED = AnswerEnd(boxed=True)
