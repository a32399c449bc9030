"""The collection that ships with the examples: some 3,000 products in lists, a Markdown file each.

It is made here, from one seed, and never trained on: its brands appear nowhere else.
"""

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from rlm_agent.tasks.catalogue.products import (
    KINDS,
    VARIANTS,
    WORDINGS,
    YEARS,
    Product,
    draw_brand,
    draw_product,
    of_year,
    passage,
    similar_brand,
)

_SEED = "catalogue"
_BRANDS = 12
_VARIANTS = 4
"""Brands of a kind of product, and variants of each."""


@cache
def collection() -> tuple[Product, ...]:
    """All products, by kind, year and name.

    Each is in the lists of all years, at another price in each; two brands of a kind always sound alike.
    """
    rng = random.Random(_SEED)
    found = [one for kind in KINDS for one in _of_kind(kind, rng)]
    return tuple(sorted(found, key=lambda one: (one.kind, one.year, one.name)))


def documents() -> dict[str, str]:
    """The files of the collection: their names, and what stands in them, a product a paragraph."""
    texts: dict[str, list[str]] = {}
    for one in collection():
        heading = [f"# {one.kind.capitalize()}s, list of {one.year}"]
        texts.setdefault(document_of(one), heading).append(line_of(one))
    return {name: "\n\n".join(paragraphs) + "\n" for name, paragraphs in texts.items()}


def write_documents(folder: Path) -> None:
    """Write the files of the collection into a folder, which is made where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def document_of(one: Product) -> str:
    """The name of the file that a product stands in."""
    return f"{one.kind}s-{one.year}.md"


def line_of(one: Product) -> str:
    """The paragraph of a product; which wording it has depends on its name alone."""
    return passage(one, sum(one.name.encode()) % WORDINGS)


def _of_kind(kind: str, rng: random.Random) -> Iterator[Product]:
    brands: list[str] = []
    while len(brands) < _BRANDS:
        brand = draw_brand(rng, shipped=True)
        pair = (brand, similar_brand(brand, rng))
        if not set(pair) & set(brands):
            brands += pair
    for brand in brands:
        for variant in rng.sample(VARIANTS, _VARIANTS):
            first = draw_product(rng, brand, kind, variant, YEARS[0])
            yield first
            yield from (of_year(first, year, rng) for year in YEARS[1:])
