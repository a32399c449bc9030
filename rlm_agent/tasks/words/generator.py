"""Word problems of a split, drawn at random and never twice."""

import random
from collections.abc import Callable, Iterator

from rlm_agent.tasks.calculations import Calculated, Sheet
from rlm_agent.tasks.countdown.puzzle import Split
from rlm_agent.tasks.words.measures import comparison, field, journey, mean, production, recipe
from rlm_agent.tasks.words.money import purchase, savings, wages
from rlm_agent.tasks.words.stock import stock

EXAMPLE = (
    "A shop has 37 crates with 48 pears in each. 129 are given away. "
    "All of them are packed into new crates of 9. How many crates are filled?"
)

Story = Callable[[random.Random, Sheet], str]
"""Makes a question and notes its calculations."""

STORIES: dict[Story, float] = {
    stock: 5,
    purchase: 3,
    wages: 1.5,
    savings: 1,
    journey: 1.5,
    production: 1.5,
    field: 1,
    recipe: 1,
    comparison: 1,
    mean: 0.7,
}
"""The kinds of problems, and how often each is drawn in relation to the others."""

LONGEST = 5
"""The most calculations of a problem; the fewest are two."""


def word_problems(rng: random.Random) -> Iterator[Calculated]:
    """An endless stream of problems of all splits."""
    stories, weights = list(STORIES), list(STORIES.values())
    while True:
        sheet = Sheet()
        text = rng.choices(stories, weights)[0](rng, sheet)
        if 2 <= len(sheet.done) <= LONGEST and _counts(sheet):
            yield Calculated(text, tuple(sheet.done))


def _counts(sheet: Sheet) -> bool:
    """Whether all results can be counted: a machine may have made less than what is said to be faulty."""
    return not any(one.result.startswith("-") for one in sheet.done)


def draw_words(split: Split, rng: random.Random) -> Iterator[Calculated]:
    """The problems of one split; endless for all practical purposes."""
    seen = set()
    for problem in word_problems(rng):
        if problem.split == split and problem.key not in seen:
            seen.add(problem.key)
            yield problem
