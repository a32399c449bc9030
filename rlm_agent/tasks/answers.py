"""Answers in free text: found, and brought to a form in which equal ones are equal."""

import re
from collections.abc import Sequence
from fractions import Fraction

from rlm_agent.structure.formats import marked_line, marker
from rlm_agent.structure.steps import Answerer
from rlm_agent.tools.actions import read_finish

_NUMBER = re.compile(r"(?<![\w.])[-−]?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{(-?\d+)\}|(\d))\s*(?:\{(-?\d+)\}|(\d))")
_PLAIN = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?|-?\d{1,30}/\d{1,30}")


def boxed(text: str) -> str | None:
    """The content of the last `\\boxed{…}`, braces balanced; None without one."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    begin = start + len("\\boxed")
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin + 1 : position].strip()
    return None


def last_number(text: str) -> str | None:
    """The last number in a text, read whole (`-3`, `1,234.5`, `7/2`); None without one."""
    found = _NUMBER.findall(text)
    return found[-1] if found else None


def free_answer(question: str, steps: Sequence[str]) -> str | None:
    """The answer of a general model's chain: what it boxed last, else the last number it wrote."""
    text = "\n".join(steps)
    return boxed(text) or last_number(text)


def finished(question: str, steps: Sequence[str]) -> str | None:
    """What the last step finishes with, `Finish[answer]`; None for an empty answer or another step."""
    return (read_finish(steps[-1]) or None) if steps else None


def marked_answer(text: str) -> Answerer:
    """Reads what follows a marker in the last line that begins with it; see `structure.formats.marker`."""
    line = marked_line(marker(text).marker)

    def answer(question: str, steps: Sequence[str]) -> str | None:
        found = line.findall("\n".join((*steps, "")))
        return found[-1].strip() if found else None

    return answer


def normalise(answer: str) -> str:
    """A form in which equal answers are equal: numbers exact, units, currency and LaTeX dress dropped.

    Text that is no number keeps its words, lower case and single-spaced, so that similar texts with
    different contents stay apart.
    """
    inner = boxed(answer)
    text = answer if inner is None else inner
    text = re.sub(r"\\text\s*\{[^{}]*\}|\\(?:left|right|,|;|!|\s)", "", text.replace("−", "-"))
    text = _FRACTION.sub(lambda m: f"{m[1] or m[2]}/{m[3] or m[4]}", text)
    text = re.sub(r"\\?[$%]|(?<=\d),(?=\d{3})", "", text).strip().rstrip(".")
    if _PLAIN.fullmatch(text):
        try:
            return str(Fraction(text))
        except ZeroDivisionError:
            return text
    return " ".join(text.lower().split())
