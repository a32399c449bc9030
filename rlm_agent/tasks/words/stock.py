"""Word problems about a stock that grows and shrinks: events drawn one after the other."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from rlm_agent.tasks.calculations import Sheet
from rlm_agent.tasks.words.vocabulary import BOXES, GOODS, PLACES

_LARGEST = 99_999
_SHARES = (5, 10, 15, 20, 25, 30, 35, 40, 45, 60, 75)


@dataclass(frozen=True, slots=True)
class Stock:
    """What a stock is of, and how much of it there is now."""

    things: str
    boxes: str
    count: str

    @property
    def whole(self) -> int:
        """The count as a number."""
        return int(self.count)


Event = Callable[[random.Random, Sheet, Stock], tuple[str, str] | None]
"""A sentence and the count after it; None where the event cannot happen."""


def stock(rng: random.Random, sheet: Sheet) -> str:
    """Boxes of things, one to three events, and a question about the end."""
    things, (box, boxes), place = rng.choice(GOODS), rng.choice(BOXES), rng.choice(PLACES)
    count, each = rng.randint(13, 98), rng.randint(13, 198)
    opening = rng.choice(
        (
            f"A {place} has {count} {boxes} with {each} {things} in each.",
            f"There are {count} {boxes} in a {place}, and every {box} holds {each} {things}.",
            f"A {place} buys {things} in {boxes} of {each}; it takes {count} {boxes}.",
            f"Each {box} of {things} holds {each} pieces, and a {place} stores {count} {boxes}.",
        )
    )
    now = Stock(things, boxes, sheet.compute(things, f"{count}*{each}"))
    sentences = [opening]
    for _ in range(rng.randint(0, 2)):
        happened = rng.choice(_EVENTS)(rng, sheet, now)
        if happened is not None:
            sentences.append(happened[0])
            now = Stock(things, boxes, happened[1])
    return " ".join((*sentences, _end(rng, sheet, now)))


def _sold(rng: random.Random, sheet: Sheet, now: Stock) -> tuple[str, str] | None:
    if now.whole < 30:
        return None
    gone = rng.randint(11, now.whole - 11)
    text = rng.choice(
        (
            f"{gone} {now.things} are sold.",
            f"Of these, {gone} are given away.",
            f"{gone} of them turn out to be broken and are thrown away.",
            f"Thieves take {gone} of the {now.things}.",
        )
    )
    return text, sheet.compute("left", f"{now.count}-{gone}")


def _come(rng: random.Random, sheet: Sheet, now: Stock) -> tuple[str, str]:
    more = rng.randint(103, 2999)
    text = rng.choice(
        (
            f"Then {more} more {now.things} arrive.",
            f"A friend adds {more} {now.things}.",
            f"Another {more} are delivered the next day.",
        )
    )
    return text, sheet.compute("now", f"{now.count}+{more}")


def _come_boxed(rng: random.Random, sheet: Sheet, now: Stock) -> tuple[str, str]:
    count, each = rng.randint(12, 59), rng.randint(12, 99)
    text = rng.choice(
        (
            f"Then {count} more {now.boxes} with {each} {now.things} each arrive.",
            f"A second delivery brings {count} {now.boxes} of {each} {now.things}.",
        )
    )
    more = sheet.compute("more", f"{count}*{each}")
    return text, sheet.compute("now", f"{now.count}+{more}")


def _gone_boxed(rng: random.Random, sheet: Sheet, now: Stock) -> tuple[str, str] | None:
    count, each = rng.randint(3, 29), rng.randint(12, 89)
    if count * each >= now.whole:
        return None
    text = rng.choice(
        (
            f"{count} customers take {each} {now.things} each.",
            f"On each of {count} days, {each} {now.things} are used up.",
        )
    )
    gone = sheet.compute("gone", f"{count}*{each}")
    return text, sheet.compute("left", f"{now.count}-{gone}")


def _spoiled(rng: random.Random, sheet: Sheet, now: Stock) -> tuple[str, str] | None:
    shares = [share for share in _SHARES if now.whole * share % 100 == 0]
    if not shares:
        return None
    share = rng.choice(shares)
    text = rng.choice(
        (
            f"{share}% of the {now.things} are spoiled and thrown away.",
            f"Then {share}% of all the {now.things} are lost.",
        )
    )
    gone = sheet.compute("lost", f"{now.count}*{share}/100")
    return text, sheet.compute("left", f"{now.count}-{gone}")


def _multiplied(rng: random.Random, sheet: Sheet, now: Stock) -> tuple[str, str] | None:
    factor = rng.randint(3, 19)
    if now.whole * factor > _LARGEST:
        return None
    text = rng.choice(
        (
            f"Over the year the stock of {now.things} grows to {factor} times as many.",
            f"A year later there are {factor} times as many {now.things}.",
        )
    )
    return text, sheet.compute("now", f"{now.count}*{factor}")


def _end(rng: random.Random, sheet: Sheet, now: Stock) -> str:
    divisors = [number for number in range(3, 60) if now.whole and now.whole % number == 0]
    if divisors and rng.random() < 0.45:
        return _shared(rng, sheet, now, rng.choice(divisors))
    if rng.random() < 0.6 or len(sheet.done) < 2:
        return _paid(rng, sheet, now)
    return rng.choice(
        (f"How many {now.things} are there in the end?", f"How many {now.things} does it have now?")
    )


def _shared(rng: random.Random, sheet: Sheet, now: Stock, parts: int) -> str:
    sheet.compute("each", f"{now.count}/{parts}")
    return rng.choice(
        (
            f"They are shared evenly among {parts} people. How many does each of them get?",
            f"All of them are packed into new {now.boxes} of {parts}. How many {now.boxes} are filled?",
            f"{parts} {now.things} go on a shelf. How many shelves are needed?",
            f"All {now.things} are divided into {parts} equal heaps. How many are in a heap?",
        )
    )


def _paid(rng: random.Random, sheet: Sheet, now: Stock) -> str:
    price = f"{rng.randint(0, 19)}.{rng.randint(1, 19) * 5:02d}"
    sheet.compute("money", f"{now.count}*{price}")
    return rng.choice(
        (
            f"All of them are sold at {price} dollars each. How many dollars does that bring?",
            f"One of the {now.things} is worth {price} dollars. What are all of them worth, in dollars?",
        )
    )


_EVENTS: tuple[Event, ...] = (_sold, _come, _come_boxed, _gone_boxed, _spoiled, _multiplied)
