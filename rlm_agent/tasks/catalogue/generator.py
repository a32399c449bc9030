"""Catalogue problems of a split, drawn at random over the shipped collection and never twice."""

import random
from collections import defaultdict
from collections.abc import Iterator

from rlm_agent.tasks.calculations import Calculated
from rlm_agent.tasks.catalogue.collection import collection
from rlm_agent.tasks.catalogue.problems import ask
from rlm_agent.tasks.catalogue.products import YEARS, Product
from rlm_agent.tasks.countdown.puzzle import Split

EXAMPLE = "What must be paid for 46 boxes of the Gux 482 drill, blue? Use the list of 2025."

ONE = 0.4
"""How many problems are about one product; the others are about two."""


def draw_catalogue(split: Split, rng: random.Random) -> Iterator[Calculated]:
    """The problems of one split; endless for all practical purposes."""
    by_year: dict[int, list[Product]] = defaultdict(list)
    for one in collection():
        by_year[one.year].append(one)
    seen = set()
    while True:
        products = rng.sample(by_year[rng.choice(YEARS)], 1 if rng.random() < ONE else 2)
        problem = ask(rng, products)
        if problem.split == split and problem.key not in seen:
            seen.add(problem.key)
            yield problem
