"""Made-up products: their names, which of them are like each other, and how a passage tells of one."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

KINDS = (
    "lamp kettle chair drill tent rope clock heater pump ladder blanket compass hammer mirror radio saddle "
    "shovel stove table whisk"
).split()
VARIANTS = "red green blue black white yellow small large round square light heavy".split()
YEARS = (2024, 2025, 2026)

_MAKERS = (
    "Bax Bel Dix Dol Fen Fox Gan Gux Kel Kir Lor Lux Mor Mux Nal Nix Pik Pol Rel Sen Sox Tan Vel Zur"
).split()


@dataclass(frozen=True, slots=True)
class Product:
    """A product as the list of one year has it: `price` in dollars with cents, `grams`, pieces in a `box`."""

    brand: str
    kind: str
    variant: str
    year: int
    price: str
    grams: int
    box: int

    @property
    def name(self) -> str:
        """What it is called, whatever the year."""
        return f"{self.brand} {self.kind}, {self.variant}"

    @property
    def query(self) -> str:
        """What one searches for, first."""
        return f"the {self.name}, {self.year}"

    @property
    def reworded(self) -> str:
        """What one searches for once that has brought another product."""
        return f"{self.year}: the {self.name}"


def shipped_brand(brand: str) -> bool:
    """Whether a brand is kept for the collection that ships with the examples; no other has it."""
    return int(hashlib.sha256(brand.encode()).hexdigest(), 16) % 5 == 0


def draw_brand(rng: random.Random, *, shipped: bool) -> str:
    """A maker and a number, of the shipped collection or never in it."""
    while True:
        brand = f"{rng.choice(_MAKERS)} {_number(rng)}"
        if shipped_brand(brand) == shipped:
            return brand


def draw_product(rng: random.Random, brand: str, kind: str, variant: str, year: int) -> Product:
    """A product with a price, a weight and a size of box that nobody could guess."""
    price = f"{rng.randint(2, 98)}.{rng.randint(0, 19) * 5:02d}"
    return Product(brand, kind, variant, year, price, rng.randint(21, 989), rng.randint(4, 48))


def any_product(rng: random.Random) -> Product:
    """A product that is not in the shipped collection."""
    brand = draw_brand(rng, shipped=False)
    return draw_product(rng, brand, rng.choice(KINDS), rng.choice(VARIANTS), rng.choice(YEARS))


def confusable(one: Product, rng: random.Random) -> Product:
    """Another product that differs in one thing by name, and in all its numbers."""
    brand, kind, variant, year = one.brand, one.kind, one.variant, one.year
    match rng.randrange(4):
        case 0:
            variant = rng.choice([other for other in VARIANTS if other != variant])
        case 1:
            year = rng.choice([other for other in YEARS if other != year])
        case 2:
            kind = rng.choice([other for other in KINDS if other != kind])
        case _:
            brand = similar_brand(brand, rng)
    return draw_product(rng, brand, kind, variant, year)


def similar_brand(brand: str, rng: random.Random) -> str:
    """The same maker or the same number, and of the shipped collection just where `brand` is."""
    maker, number = brand.split()
    while True:
        other = f"{maker} {_number(rng)}" if rng.random() < 0.7 else f"{rng.choice(_MAKERS)} {number}"
        if other != brand and shipped_brand(other) == shipped_brand(brand):
            return other


def _number(rng: random.Random) -> int:
    return rng.randint(100, 999)


def passage(one: Product, wording: int) -> str:
    """A product in one line; there are `WORDINGS` ways to put it."""
    return _PASSAGES[wording % WORDINGS].format(
        name=one.name, year=one.year, price=one.price, grams=one.grams, box=one.box
    )


_PASSAGES: Sequence[str] = (
    "{name} (list of {year}): {price} dollars, {grams} g, {box} in a box.",
    "{name}, {year}: {box} in a box, {price} dollars each, weight {grams} g.",
    "{name}, {year}. Weight: {grams} g. Price: {price} dollars. Box of {box}.",
    "{name}, list of {year}: a box holds {box}; one weighs {grams} g and costs {price} dollars.",
    "In {year} the {name}, costs {price} dollars, weighs {grams} g and comes in boxes of {box}.",
)
WORDINGS = len(_PASSAGES)


def of_year(one: Product, year: int, rng: random.Random) -> Product:
    """The same product in another year's list, at another price; weight and box stay."""
    return replace(draw_product(rng, one.brand, one.kind, one.variant, year), grams=one.grams, box=one.box)
