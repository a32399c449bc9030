"""What `mini-tools` learns, as conversations: to calculate by calls, and to look up what is not said.

A line that ends in `<<37*48=` is answered by the calculator and one that is `Action: search[…]` by passages,
each on a line that begins with `Observation:`. The model learns to write the calls and what follows from the
answers, never an observation. `calls=False` makes the same word problems for a model that has no tools: it
writes the results itself.
"""

import random
from collections.abc import Collection, Iterator

from rlm_agent.tasks.calculations import Calculated
from rlm_agent.tasks.words.generator import word_problems
from rlm_agent.tools.actions import OBSERVATION
from rlm_agent.tools.calculator import Calculator
from rlm_agent.tools.rational import ExpressionError
from rlm_agent.training.lookups import calculated, finish, looked_up
from rlm_agent.training.skills import Example, Line

ASKS = {"act": "{tools}"}
"""The model acts whatever it is told: its chat template leaves out what is put before a conversation."""

SHARES = {"words": 0.5, "words astray": 0.05, "catalogue": 0.45}
SHARES_WITHOUT_CALLS = {"words": 1.0}


def examples(seed: int, *, excluded: Collection[str] = (), calls: bool = True) -> Iterator[Example]:
    """An endless stream of examples of all kinds in their shares, the same for the same seed.

    Word problems of the validation and test splits never appear, nor does any brand of the shipped
    collection, nor a problem whose text is in `excluded`.
    """
    rng = random.Random(f"tools/{seed}")
    shares = SHARES if calls else SHARES_WITHOUT_CALLS
    problems = (one for one in word_problems(rng) if one.split == "train" and one.text not in excluded)
    while True:
        (kind,) = rng.choices(list(shares), list(shares.values()))
        if kind == "words":
            yield worked(next(problems), calls=calls)
        elif kind == "words astray":
            yield _astray(next(problems), rng)
        else:
            yield looked_up(rng)


def worked(problem: Calculated, *, calls: bool = True) -> Example:
    """A word problem and its solution."""
    if calls:
        return Line(problem.text), *calculated(problem.calculations), finish(problem.answer)
    lines = (f"{one.label} <<{one.expression}={one.result}>>" for one in problem.calculations)
    return Line(problem.text), *(Line(text, learned=True) for text in lines), finish(problem.answer)


def _astray(problem: Calculated, rng: random.Random) -> Example:
    """A solution that goes wrong somewhere: what is before the fault is learned, and that it is one."""
    stop = rng.randrange(len(problem.calculations))
    right = problem.calculations[stop]
    wrong = _corrupted(problem, stop, rng)
    lines = [Line(problem.text), *calculated(problem.calculations[:stop])]
    if wrong != right.expression:
        try:
            result = Calculator().call(wrong)
        except ExpressionError as error:
            result = f"Error: ExpressionError: {error}"
        lines.append(Line(f"{right.label} <<{wrong}=", reach=False))
        lines.append(Line(f"{OBSERVATION}{result}", reach=False))
    return tuple(lines)


def _corrupted(problem: Calculated, stop: int, rng: random.Random) -> str:
    """A calculation with another sign, or with another number of the problem in it."""
    expression = problem.calculations[stop].expression
    signs = [at for at, letter in enumerate(expression) if letter in "+-*/"]
    if rng.random() < 0.5:
        at = rng.choice(signs)
        return expression[:at] + rng.choice("+-*/") + expression[at + 1 :]
    numbers = [word.strip(".,%?;") for word in problem.text.split()]
    known = [word for word in numbers if word.replace(".", "", 1).isdigit()]
    known += [one.result for one in problem.calculations[:stop]]
    at = rng.choice(signs)
    if rng.random() < 0.5:
        return expression[: at + 1] + rng.choice(known)
    return rng.choice(known) + expression[at:]
