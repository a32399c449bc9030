"""The text on which the tokenizer of `mini` is trained: numbers, puzzle lines, and plain English.

English is there so that later models on the same vocabulary can read word problems; all of it is
made here, from our own templates and word lists.
"""

import random
from collections.abc import Iterator

LARGEST_NUMBER = 400
"""Whole numbers up to this one get a token of their own, with and without a space before them."""

_NAMES = "Anna Ben Carla David Emma Felix Grace Henry Ida Jonas Kim Leo Mia Noah Olga Paul".split()
_THINGS = (
    "apples oranges pears books pens pencils boxes bags bottles cups plates chairs tables coins stamps cards "
    "eggs cakes loaves tickets flowers trees stones shirts shoes hats marbles balls kites lamps clocks keys"
).split()
_UNITS = (
    "dollars cents euros meters kilometers miles hours minutes seconds days weeks months years grams "
    "kilograms liters percent dozen pairs pieces parts"
).split()
_VERBS = (
    "buys sells gives takes finds loses makes reads counts packs carries shares saves spends needs has"
).split()
_SENTENCES = (
    "{name} {verb} {n} {thing} and {m} {thing2}.",
    "Each of the {n} {thing} costs {m} {unit}.",
    "How many {thing} does {name} have now?",
    "How much does {name} pay for all of the {thing} together?",
    "There are {n} {thing} in every box, and {name} has {m} boxes.",
    "After {n} {unit}, {name} {verb} {m} more {thing} than {name2}.",
    "If {name} {verb} half of the {thing}, then what is left is {n}.",
    "The total is {n} times the price of one, which is {m} {unit}.",
    "First, {name} adds {n} to {m}. Next, the sum is divided by the number of {thing}.",
    "So the answer is {n}.",
    "Therefore {name} must wait until the difference between them is less than {m} {unit}.",
    "Question: what is the average of {n}, {m} and the number of {thing}? Answer: {n}",
    "Wait, this is wrong. Let me check the step again and try another way.",
)


def lines(seed: int, count: int) -> Iterator[str]:
    """`count` lines of made-up text, the same for the same seed."""
    rng = random.Random(f"corpus/{seed}")
    for _ in range(count):
        yield rng.choice(_SENTENCES).format(
            name=rng.choice(_NAMES),
            name2=rng.choice(_NAMES),
            verb=rng.choice(_VERBS),
            thing=rng.choice(_THINGS),
            thing2=rng.choice(_THINGS),
            unit=rng.choice(_UNITS),
            n=rng.randint(0, LARGEST_NUMBER),
            m=rng.randint(0, LARGEST_NUMBER),
        )


def numbers(repeats: int) -> Iterator[str]:
    """Every number up to `LARGEST_NUMBER`, at the start of a line and inside one."""
    for number in range(LARGEST_NUMBER + 1):
        for _ in range(repeats):
            yield f"{number} {number}"
