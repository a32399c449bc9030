"""The arithmetic of a text checked: every claim such as `3 * 4 = 12` against exact numbers.

The claims are found by where they stand, not by a model. What holds a variable, a word or anything else that
cannot be told to be arithmetic is no claim, so that nothing is refused that may be right.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from rlm_agent.structure.steps import Checked
from rlm_agent.tools.actions import OBSERVATION
from rlm_agent.tools.calculator import exactly
from rlm_agent.tools.rational import ExpressionError

_CHARACTERS = r"[0-9.,+\-−*×·/÷()$€£% ]"
_RUN = re.compile(rf"(?:{_CHARACTERS}|[=≈])+")
_SIGN = re.compile(r"([=≈])")
_OPERATION = re.compile(r"[0-9)%]\s*[+\-−*×·/÷]\s*[$€£]?[0-9(]")
_NUMBER = re.compile(r"[+\-−]?[0-9.,]+")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*%")
_MONEY = re.compile("[$€£]")
_OPERATORS = tuple("+-−*×·/÷")
_FENCES = tuple("<>:;!?\"'|[]{}_`")
"""What may stand right beside a claim without being a part of it."""

_LONGEST = 10_000
_FEWEST_ROUNDED = 2
"""How many decimals a number has at least that may be a rounded one, where `=` stands and not `≈`."""


@dataclass(frozen=True, slots=True)
class Claim:
    """That the left side is the right side, as it is written, and whether it is."""

    text: str
    holds: bool


def claims(text: str) -> list[Claim]:
    """What a text claims of numbers, in order; only what lies in its first 10,000 characters.

    A number with two decimals or more, or behind `≈`, may be rounded at its last digit.
    """
    return [claim for match in _RUN.finditer(text[:_LONGEST]) for claim in _claimed(text, match)]


def check_arithmetic(question: str, state: str | None, step: str) -> Checked:
    """A step checker that refuses steps with a false claim of arithmetic; all others leave the state."""
    false = next((claim for claim in claims(step) if not claim.holds), None)
    return Checked(state=state, reason=None if false is None else f"{false.text} is false")


def sound_arithmetic(question: str, steps: Sequence[str]) -> float:
    """How sound the arithmetic of a chain is: 0 with a false claim, else (1 + n) / (2 + n) after n true ones.

    That is the rule of succession: ½ of a chain that claims nothing. What tools say is not the chain's claim.
    """
    own = (step for step in steps if not step.startswith(OBSERVATION))
    found = [claim.holds for step in own for claim in claims(step)]
    return (1 + len(found)) / (2 + len(found)) if all(found) else 0.0


def _claimed(text: str, run: re.Match[str]) -> Iterator[Claim]:
    """The claims of one chain of equations."""
    sides = _alone(text, run)
    values = [_value(side) for side in sides[::2]]
    operated = [bool(_OPERATION.search(side)) for side in sides[::2]]
    for at, (left, right) in enumerate(pairwise(values)):
        if left is None or right is None or not (operated[at] or operated[at + 1]):
            continue
        sign, said = sides[2 * at + 1], sides[2 * at + 2]
        holds = left == right or abs(left - right) <= _tolerance(said, about=sign == "≈")
        yield Claim(f"{sides[2 * at].strip()} {sign} {said.strip().rstrip('.,')}", holds)


def _alone(text: str, run: re.Match[str]) -> list[str]:
    """The sides of a chain with their signs; the first and the last one are empty where they go on beyond it.

    There stands a word, a power or the like, which is part of the equation.
    """
    sides = _SIGN.split(run[0])
    before, after = text[: run.start()][-1:], text[run.end() :][:1]
    first, last = sides[0], sides[-1]
    touches = before.strip() and not first[:1].isspace() and before not in _FENCES
    if touches or (before and first.lstrip()[:1] in _OPERATORS):
        sides[0] = ""
    runs_on = after.strip() and not last[-1:].isspace() and last[-1:] != "(" and after not in _FENCES
    if runs_on or last.rstrip()[-1:] in _OPERATORS:
        sides[-1] = ""
    return [side if side in ("=", "≈") else _balanced(side.strip()) for side in sides]


def _balanced(side: str) -> str:
    """A side without the parentheses at its ends that belong to the text around it."""
    while side.endswith("(") or (side.endswith(")") and side.count(")") > side.count("(")):
        side = side[:-1].rstrip()
    while side.startswith(")") or (side.startswith("(") and side.count("(") > side.count(")")):
        side = side[1:].lstrip()
    return side


def _value(side: str) -> Fraction | None:
    plain = _PERCENT.sub(r"(\1/100)", _MONEY.sub("", side)).strip().rstrip(".,").strip()
    if not plain or re.search(r"[0-9)]\s+[0-9(]|\)\(|[0-9]\(|\)[0-9]", plain):
        return None  # numbers side by side are a list, or a product that only a reader understands
    try:
        return exactly(plain)
    except ExpressionError:
        return None


def _tolerance(side: str, *, about: bool) -> Fraction:
    """How far a number may be from what it stands for, by how it is written."""
    plain = _MONEY.sub("", side).strip().rstrip("%").strip().rstrip(".,")
    if not _NUMBER.fullmatch(plain):
        return Fraction(0)
    places = len(plain.partition(".")[2])
    scale = Fraction(1, 100) if "%" in side else Fraction(1)
    return scale * Fraction(1, 2 * 10**places) if about or places >= _FEWEST_ROUNDED else Fraction(0)
