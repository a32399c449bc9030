"""How a conversation and a model's steps are put into the question to a judge, and its reply is read.

Replies are not trusted: they are read by regular expressions of bounded length, near their end, and what is
not clear is not read at all.
"""

import hashlib
import re
from collections.abc import Sequence

from rlm_agent.models.protocols import Message
from rlm_agent.structure.errors import InputError

_PLACES = re.compile(r"\{(\w+)\}")
_LONGEST = 20_000
"""How many letters of the end of a reply are read."""
_NUMBER = r"(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)(?!\w|\.[0-9]|\s?[-–]\s?[0-9])"
"""A number that is not the beginning of another one, or of a range."""
_ANY_NUMBER = re.compile(r"(?<![\w.–-])" + _NUMBER)
_GRADE = re.compile(r"\b(?:grade|score|rating)\b(?: (?:is|of))?[^\w\n-]{0,8}" + _NUMBER, re.IGNORECASE)
_OUT_OF = re.compile(r"(?<![\w.–-])" + _NUMBER + r"\s?(?:/|out of)\s?([0-9]{1,9})\b")
_CHOICE = re.compile(r"\bbest choice\b[^\n0-9-]{0,24}" + _NUMBER, re.IGNORECASE)


def question_of(messages: Sequence[Message]) -> str:
    """The contents of a conversation without the system's, with a blank line between them."""
    return "\n\n".join(message["content"] for message in messages if message["role"] != "system")


def fill(pattern: str, **texts: str) -> str:
    """Put texts into the places of their names, in one pass: what stands in a text is not a place."""
    return _PLACES.sub(lambda place: texts.get(place[1], place[0]), pattern)


def list_choices(chains: Sequence[Sequence[str]]) -> str:
    """Several chains of steps, numbered from 1, a step a line, with a blank line between them."""
    return "\n\n".join("\n".join((f"Attempt {number}:", *steps)) for number, steps in enumerate(chains, 1))


def require_places(pattern: str, *names: str) -> None:
    """`InputError` for a pattern that has no place of one of these names."""
    for name in names:
        if f"{{{name}}}" not in pattern:
            raise InputError(f"the pattern {pattern!r} leaves the chain out; write {{{name}}} in it")


def read_grade(reply: str, low: float, high: float) -> float | None:
    """The grade that a judge gives: behind the last "grade", "score" or "rating", or before the last "out of"
    the highest one, or the only number there is; None for none, or one that is not within the bounds.
    """
    reply = reply[-_LONGEST:]
    named = _GRADE.findall(reply)
    named = named or [number for number, most in _OUT_OF.findall(reply) if float(most) == high]
    return _within(named[-1:] or _ANY_NUMBER.findall(reply), low, high)


def read_choice(reply: str, low: int, high: int) -> int | None:
    """The number behind the last "best choice", or the only one in the last line; None for none within the
    bounds.
    """
    reply = reply[-_LONGEST:]
    number = _within(_CHOICE.findall(reply)[-1:] or _ANY_NUMBER.findall(_last_line(reply)), low, high)
    return int(number) if number is not None and number == int(number) else None


def read_word(reply: str, words: Sequence[str]) -> str | None:
    """The only one of these words that stands in the last line or, where none does, in the whole reply.

    What a "not" stands before does not count. None where there is none, or more than one.
    """
    reply = reply[-_LONGEST:]
    any_word = "|".join(map(re.escape, words))
    pattern = re.compile(rf"(?<!\w)(?<!not )(?<!n't )(?:{any_word})(?!\w)", re.IGNORECASE)
    for text in (_last_line(reply), reply):
        found = {word.lower() for word in pattern.findall(text)}
        if found:
            return next((word for word in words if {word.lower()} == found), None)
    return None


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _within(numbers: Sequence[str], low: float, high: float) -> float | None:
    """The only one of these numbers, if it lies within the bounds."""
    if len(numbers) != 1:
        return None
    number = float(numbers[0])
    return number if low <= number <= high else None


def digest(text: str) -> str:
    """Sixteen hexadecimal digits that name a text, half a surrogate pair and all."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
