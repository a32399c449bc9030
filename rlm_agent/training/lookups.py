"""Catalogue problems as conversations: searches that find, mislead or fail, then calculations.

Products are made up as they are needed, with the passages about them; none is of the shipped collection.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rlm_agent.tasks.calculations import Calculation
from rlm_agent.tasks.catalogue.collection import document_of
from rlm_agent.tasks.catalogue.generator import ONE
from rlm_agent.tasks.catalogue.problems import ask
from rlm_agent.tasks.catalogue.products import WORDINGS, Product, any_product, confusable, passage
from rlm_agent.tools.actions import OBSERVATION
from rlm_agent.training.skills import Example, Line

SEARCH = "search"
"""The action that looks something up."""

ANOTHER = "Another product."
"""What the model says of passages that tell of something else than what it has searched for."""

_PASSAGES = {"right": 0.5, "wrong": 0.3, "several": 0.09, "several wrong": 0.08, "failed": 0.03}
"""What a first search brings."""

_FOUND_AGAIN = 0.75
"""How often the second search for a product brings it, after the first has not."""

_BEFORE = 0.15
"""How often there are passages before the first step."""

_FAILURES = (
    "(nothing was found)",
    "Error: no reply within 30 seconds",
    "Error: OSError: the index cannot be read",
)

_SOURCES = (
    "{text}",
    "{text}",
    "{text}",
    "{text}",
    "{text} ({source})",
    "{source}: {text}",
)
"""How a passage stands with its source, which is the retriever's affair."""


def calculated(calculations: Sequence[Calculation]) -> Iterator[Line]:
    """Calculations as calls, each with what the calculator says."""
    for one in calculations:
        yield Line(f"{one.label} <<{one.expression}=", learned=True, reach=True)
        yield Line(f"{OBSERVATION}{one.result}", reach=True)


def finish(answer: str) -> Line:
    """The end of a solution; that of one that has been given up has no answer."""
    return Line(f"Finish[{answer}]", learned=True, ends=True)


def looked_up(rng: random.Random) -> Example:
    """A catalogue problem: everything is looked up, then calculated."""
    products = _drawn(rng)
    problem = ask(rng, products)
    said = _Said(rng.choice(_SOURCES))
    lines, missing = [Line(problem.text)], list(products)
    if rng.random() < _BEFORE:
        missing = _laid_out(lines, products, said, rng)
    for one in missing:
        if not _looked_up(lines, one, said, rng):
            return (*lines, finish(""))
    return (*lines, *calculated(problem.calculations), finish(problem.answer))


@dataclass(frozen=True, slots=True)
class _Said:
    """Passages as a retriever brings them: how their source stands with them is its own affair."""

    source: str

    def text(self, one: Product, rng: random.Random) -> str:
        """A passage in one of the wordings."""
        text = passage(one, rng.randrange(WORDINGS))
        return self.source.format(text=text, source=document_of(one))


def _drawn(rng: random.Random) -> list[Product]:
    first = any_product(rng)
    if rng.random() < ONE:
        return [first]
    second = any_product(rng) if rng.random() < 0.8 else confusable(first, rng)
    return [first, replace(second, year=first.year)] if second.name != first.name else [first]


def _laid_out(
    lines: list[Line], products: Sequence[Product], said: _Said, rng: random.Random
) -> list[Product]:
    """Passages before the first step, right ones and others; the products that are still missing."""
    found = [one for one in products if rng.random() < 0.6]
    others = [confusable(rng.choice(products), rng) for _ in range(rng.randint(not found, 2))]
    known = {one.query for one in products}
    told = [*found, *(one for one in others if one.query not in known)]
    rng.shuffle(told)
    lines += (Line(f"{OBSERVATION}{said.text(one, rng)}") for one in told)
    return [one for one in products if one not in found]


def _looked_up(lines: list[Line], one: Product, said: _Said, rng: random.Random) -> bool:
    """Search for a product, and once more where that has brought others only; whether it was found."""
    (kind,) = rng.choices(list(_PASSAGES), list(_PASSAGES.values()))
    if _searched(lines, one, one.query, kind, said, rng):
        return True
    kind = rng.choice(("right", "several")) if rng.random() < _FOUND_AGAIN else kind
    return _searched(lines, one, one.reworded, kind, said, rng)


def _searched(
    lines: list[Line], one: Product, query: str, kind: str, said: _Said, rng: random.Random
) -> bool:
    lines.append(Line(f"Action: {SEARCH}[{query}]", learned=True))
    if kind == "failed":
        lines.append(Line(f"{OBSERVATION}{rng.choice(_FAILURES)}"))
    else:
        lines.append(_passages(one, kind, said, rng))
        if kind in ("wrong", "several wrong"):
            lines.append(Line(ANOTHER, learned=True))
    return kind in ("right", "several")


def _passages(one: Product, kind: str, said: _Said, rng: random.Random) -> Line:
    """One passage, or several that are numbered, in an observation."""
    right = kind in ("right", "several")
    count = rng.randint(1, 2) if "several" in kind else kind == "wrong"
    told = [confusable(one, rng) for _ in range(count)] + [one] * right
    rng.shuffle(told)
    texts = [said.text(other, rng) for other in told]
    if len(texts) > 1:
        texts = [f"[{number}] {text}" for number, text in enumerate(texts, 1)]
    return Line(f"{OBSERVATION}{' '.join(texts)}", reach=right)
