"""Questions about products whose numbers have to be looked up."""

import random
from collections.abc import Callable, Sequence
from fractions import Fraction

from rlm_agent.tasks.calculations import Calculated, Sheet
from rlm_agent.tasks.catalogue.products import Product
from rlm_agent.tasks.words.vocabulary import PEOPLE, PLACES

_DISCOUNTS = (5, 10, 15, 20, 25, 30, 40)
_MOST = 98

Inquiry = Callable[[random.Random, Sheet, Sequence[Product]], str]
"""Makes a question about products and notes its calculations; the answer is the last one's result."""


def ask(rng: random.Random, products: Sequence[Product]) -> Calculated:
    """A question about one or two products of one year's list."""
    sheet = Sheet()
    inquiries = (*_ABOUT_ANY, *_ABOUT_ONE) if len(products) == 1 else (*_ABOUT_ANY, _difference)
    text = rng.choice(inquiries)(rng, sheet, products)
    year = products[0].year
    listed = rng.choice(
        (f"Use the list of {year}.", f"All by the list of {year}.", f"See the list of {year}.")
    )
    return Calculated(f"{text} {listed}", tuple(sheet.done), tuple(one.query for one in products))


def _cost(rng: random.Random, sheet: Sheet, products: Sequence[Product]) -> str:
    wanted, _ = _summed(rng, sheet, products, [one.price for one in products])
    return rng.choice(
        (f"{_who(rng)} orders {wanted}. How many dollars does it cost?", f"What must be paid for {wanted}?")
    )


def _change(rng: random.Random, sheet: Sheet, products: Sequence[Product]) -> str:
    wanted, total = _summed(rng, sheet, products, [one.price for one in products])
    note = (int(Fraction(total)) // 500 + 1) * 500
    sheet.compute("left", f"{note}-{total}")
    return rng.choice(
        (
            f"{_who(rng)} has {note} dollars and buys {wanted}. How many dollars are left?",
            f"How much change from {note} dollars is there for {wanted}?",
        )
    )


def _discounted(rng: random.Random, sheet: Sheet, products: Sequence[Product]) -> str:
    wanted, total = _summed(rng, sheet, products, [one.price for one in products])
    share = rng.choice(_DISCOUNTS)
    off = sheet.compute("discount", f"{total}*{share}/100")
    sheet.compute("price", f"{total}-{off}")
    return rng.choice(
        (
            f"{_who(rng)} orders {wanted} at a discount of {share}%. How many dollars does it cost?",
            f"What must be paid for {wanted} when {share}% are taken off?",
        )
    )


def _weight(rng: random.Random, sheet: Sheet, products: Sequence[Product]) -> str:
    wanted, _ = _summed(rng, sheet, products, [str(one.grams) for one in products])
    return rng.choice(
        (f"How many g do {wanted} weigh?", f"{_who(rng)} packs {wanted}. What do they weigh, in g?")
    )


def _boxes(rng: random.Random, sheet: Sheet, products: Sequence[Product]) -> str:
    (one,) = products
    pieces = one.box * rng.randint(7, _MOST)
    sheet.compute("boxes", f"{pieces}/{one.box}")
    return rng.choice(
        (
            f"{_who(rng)} needs {pieces} of the {one.name}. How many boxes are that?",
            f"In how many boxes do {pieces} of the {one.name} come?",
        )
    )


def _boxed_cost(rng: random.Random, sheet: Sheet, products: Sequence[Product]) -> str:
    (one,) = products
    boxes = rng.randint(6, _MOST)
    pieces = sheet.compute("pieces", f"{boxes}*{one.box}")
    sheet.compute(one.kind, f"{pieces}*{one.price}")
    return rng.choice(
        (
            f"{_who(rng)} orders {boxes} boxes of the {one.name}. How many dollars does it cost?",
            f"What must be paid for {boxes} boxes of the {one.name}?",
        )
    )


def _budget(rng: random.Random, sheet: Sheet, products: Sequence[Product]) -> str:
    (one,) = products
    dollars = f"{float(Fraction(one.price) * rng.randint(7, _MOST)):.2f}"
    sheet.compute("pieces", f"{dollars}/{one.price}")
    return rng.choice(
        (
            f"{_who(rng)} has {dollars} dollars. How many of the {one.name} can be bought for that?",
            f"How many of the {one.name} does one get for {dollars} dollars?",
        )
    )


def _difference(rng: random.Random, sheet: Sheet, products: Sequence[Product]) -> str:
    counts = [rng.randint(6, _MOST) for _ in products]
    parts = [_product(sheet, one, count, one.price) for count, one in zip(counts, products, strict=True)]
    more, less = (0, 1) if Fraction(parts[0]) >= Fraction(parts[1]) else (1, 0)
    sheet.compute("difference", f"{parts[more]}-{parts[less]}")
    first, second = (f"{count} of the {one.name}" for count, one in zip(counts, products, strict=True))
    return f"By how many dollars do the prices of {first} and of {second} differ?"


def _summed(
    rng: random.Random, sheet: Sheet, products: Sequence[Product], each: Sequence[str]
) -> tuple[str, str]:
    """So many of each product, in words, and what they come to at so much for `each`."""
    counts = [rng.randint(6, _MOST) for _ in products]
    wanted = zip(counts, products, each, strict=True)
    parts = [_product(sheet, one, count, value) for count, one, value in wanted]
    total = sheet.compute("total", "+".join(parts)) if len(parts) > 1 else parts[0]
    listed = " and ".join(f"{count} of the {one.name}" for count, one in zip(counts, products, strict=True))
    return listed, total


def _product(sheet: Sheet, one: Product, count: int, each: str) -> str:
    return sheet.compute(one.kind, f"{count}*{each}")


def _who(rng: random.Random) -> str:
    return rng.choice((rng.choice(PEOPLE), f"A {rng.choice(PLACES)}"))


_ABOUT_ANY: tuple[Inquiry, ...] = (_cost, _change, _discounted, _weight)
_ABOUT_ONE: tuple[Inquiry, ...] = (_boxes, _boxed_cost, _budget)
