"""The steps of a Countdown solution: how they are written, checked, and turned into an answer.

A step is a line such as `13 - 9 = 4 | 4 4 10`: one operation on two of the numbers left, and what is
left after it. The last step leaves one number and may omit it: `4 * 6 = 24`.
"""

import re
from collections import Counter
from collections.abc import Sequence

from rlm_agent.structure.errors import ProblemError
from rlm_agent.structure.steps import Checked, Verdict
from rlm_agent.tasks.countdown.moves import Number, State, apply, divide
from rlm_agent.tasks.countdown.puzzle import parse
from rlm_agent.tools.rational import ExpressionError, evaluate

_NUMBER = r"[0-9]{1,15}(?:/[0-9]{1,15})?"
_STEP = re.compile(rf"({_NUMBER}) ([+\-*/]) ({_NUMBER}) = ({_NUMBER})(?: \| ({_NUMBER}(?: {_NUMBER})*))?")


def write_step(op: str, a: Number, b: Number, result: Number, left: State) -> str:
    """The line of one move; the inverse of what `check_step` reads."""
    line = f"{a} {op} {b} = {result}"
    return line if len(left) == 1 else f"{line} | {write_state(left)}"


def write_state(state: State) -> str:
    """The numbers left, ascending, as text."""
    return " ".join(map(str, state))


def check_step(question: str, state: str | None, step: str) -> Checked:
    """Check one step against the numbers left before it (None: the numbers of the question)."""
    before = parse(question).numbers if state is None else tuple(map(_number, state.split()))
    match = _STEP.fullmatch(step.strip())
    if match is None:
        return Checked(reason="not a step of the form 'a op b = c | numbers left'")
    try:
        a, b, result = (_number(match[group]) for group in (1, 3, 4))
        value = apply(match[2], a, b)
        stated = sorted(map(_number, match[5].split())) if match[5] else None
    except ZeroDivisionError:
        return Checked(reason="division by zero")
    left = Counter(before)
    left.subtract((a, b))
    if min(left.values()) < 0:
        return Checked(reason="uses a number that is not left")
    if value != result:
        return Checked(reason="wrong arithmetic")
    after = tuple(sorted((left + Counter((result,))).elements()))
    if (stated is None and len(after) > 1) or (stated is not None and tuple(stated) != after):
        return Checked(reason="wrong numbers left")
    return Checked(state=write_state(after), final=len(after) == 1)


def answer(question: str, steps: Sequence[str]) -> str | None:
    """The expression that a chain of legal steps spells out, such as `(13 - 9) * (10 - 4)`.

    None where the chain has not brought the numbers down to one.
    """
    terms: list[tuple[Number, str]] = [(n, str(n)) for n in sorted(parse(question).numbers)]
    for step in steps:
        match = _STEP.fullmatch(step.strip())
        if match is None:
            return None
        try:
            first = _take(terms, _number(match[1]))
            second = _take(terms, _number(match[3]))
            terms.append((_number(match[4]), f"({first} {match[2]} {second})"))
        except (ValueError, ZeroDivisionError):
            return None
    return terms[0][1].removeprefix("(").removesuffix(")") if len(terms) == 1 else None


def _take(terms: list[tuple[Number, str]], value: Number) -> str:
    """Remove a term of that value and return its text; `ValueError` where there is none."""
    position = [term[0] for term in terms].index(value)
    return terms.pop(position)[1]


def verify(question: str, candidate: str) -> Verdict:
    """Whether an expression uses each number of the question once and makes its target.

    It may end in `= target`. It is parsed and computed exactly; nothing of it is executed.
    """
    try:
        puzzle = parse(question)
    except ProblemError as error:
        return Verdict(False, str(error))
    expression, equals, stated = candidate.partition("=")
    if equals and stated.strip() != str(puzzle.target):
        return Verdict(False, "states another target")
    try:
        value, numbers = evaluate(expression)
    except ExpressionError as error:
        return Verdict(False, str(error))
    if sorted(numbers) != sorted(puzzle.numbers):
        return Verdict(False, "does not use each number exactly once")
    if value != puzzle.target:
        return Verdict(False, f"makes {value}, not {puzzle.target}")
    return Verdict(True)


def _number(text: str) -> Number:
    numerator, _, denominator = text.partition("/")
    return divide(int(numerator), int(denominator)) if denominator else int(numerator)
