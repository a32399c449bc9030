"""A heuristic that demands support: is what a chain says in the passages that it was given?

No model is asked and no answer is known: it compares words and numbers. It is blind to what they mean, so mix
it with a value that is not (`MixedValue`).
"""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial

from rlm_agent.models.values import FunctionValue
from rlm_agent.tools.actions import CALCULATOR, OBSERVATION, Call, read_action
from rlm_agent.tools.arithmetic import claims

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"(?<![\w.])[0-9]{1,15}(?:,[0-9]{3})*(?:\.[0-9]{1,15})?(?!\w)")
_SHORT = 2
_LABEL = re.compile(r"action(?: ?[0-9]{1,3})? ?:", re.IGNORECASE)
_LONGEST = 4000
"""How many letters of a step are looked at."""


class SupportValue(FunctionValue):
    """How well a chain is supported, in [0, 1]: see `support`. `name` is that of the action that searches."""

    def __init__(self, name: str = "search") -> None:
        super().__init__(partial(support, name=name), f"support:{name}")


def support(question: str, steps: Sequence[str], *, name: str = "search") -> float:
    """The coverage of the chain's queries times the share of its numbers that are founded, in [0, 1].

    The coverage of a query is the share of its words that stand in the passage which answers it; a chain's is
    the mean over its passages, ½ where it has none. A number of the policy's own is founded if it stands in
    the question or in an observation before it, or follows from founded ones by a true claim, `3 * 4 = 12`.
    """
    steps = [step[:_LONGEST] for step in steps]
    shares = [covered(query, passage) for query, passage in asked(question, steps, name)]
    coverage = sum(shares) / len(shares) if shares else 0.5
    founded = list(foundations(question, steps))
    return coverage * (sum(founded) / len(founded) if founded else 1.0)


def asked(question: str, steps: Sequence[str], name: str) -> Iterator[tuple[str, str]]:
    """The passages of a chain, each behind the query that it answers; what other tools say is left out.

    A passage answers the search, or the ordinary step, before it; the question where none stands before it.
    """
    query: str | None = question
    for step in steps:
        if not step.startswith(OBSERVATION):
            action = read_action(step, (name, CALCULATOR))
            searches = isinstance(action, Call) and action.name == name
            query = action.argument if searches and isinstance(action, Call) else None if action else step
        elif query is not None:
            yield query, step.removeprefix(OBSERVATION)


def covered(query: str, passage: str) -> float:
    """The share of a query's words that stand in a passage; those of two letters say nothing, numbers do."""
    wanted = {word for word in _words(query) if len(word) > _SHORT or word.isdigit()}
    return len(wanted & _words(passage)) / len(wanted) if wanted else 1.0


def foundations(question: str, steps: Sequence[str]) -> Iterator[bool]:
    """Of each number that the policy wrote, in order, whether it is founded."""
    known = set(_numbers(question))
    for step in steps:
        if step.startswith(OBSERVATION):
            known.update(_numbers(step))
            continue
        own = _numbers(_LABEL.sub("", step))
        for claim in claims(step):
            left, _, right = claim.text.replace("≈", "=").partition("=")
            if claim.holds and known.issuperset(_numbers(left)):
                known.update(_numbers(right))
        yield from (number in known for number in own)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))


def _numbers(text: str) -> list[Fraction]:
    return [Fraction(number.replace(",", "")) for number in _NUMBER.findall(text)]
