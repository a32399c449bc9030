"""Word problems about buying, discounts, wages and savings."""

import random

from rlm_agent.tasks.calculations import Sheet
from rlm_agent.tasks.words.vocabulary import CURRENCIES, GOODS, PEOPLE, PLACES

_DISCOUNTS = (4, 5, 8, 10, 12, 15, 20, 25, 30, 35, 40)


def price(rng: random.Random, most: int = 89) -> str:
    """A price with cents, in steps of five."""
    return f"{rng.randint(1, most)}.{rng.randint(0, 19) * 5:02d}"


def purchase(rng: random.Random, sheet: Sheet) -> str:
    """Two or three goods at prices with cents; the total, the change, or the difference."""
    person, currency = rng.choice(PEOPLE), rng.choice(CURRENCIES)
    goods = rng.sample(GOODS, rng.choice((2, 2, 2, 3)))
    counts, prices = [rng.randint(6, 98) for _ in goods], [price(rng) for _ in goods]
    bought = [
        f"{count} {things} at {cost} {currency} each"
        for count, things, cost in zip(counts, goods, prices, strict=True)
    ]
    parts = [
        sheet.compute(things, f"{count}*{cost}")
        for count, things, cost in zip(counts, goods, prices, strict=True)
    ]
    listed = f"{', '.join(bought[:-1])} and {bought[-1]}"
    opening = rng.choice((f"{person} buys {listed}.", f"{person} orders {listed} from a shop."))
    if len(parts) == 2 and rng.random() < 0.25:
        return f"{opening} {_compared(sheet, goods, parts, currency)}"
    total = sheet.compute("total", "+".join(parts))
    return f"{opening} {_settled(rng, sheet, total, person, currency)}"


def _compared(sheet: Sheet, goods: list[str], parts: list[str], currency: str) -> str:
    more, less = (0, 1) if float(parts[0]) >= float(parts[1]) else (1, 0)
    sheet.compute("difference", f"{parts[more]}-{parts[less]}")
    return f"How many {currency} more do the {goods[more]} cost than the {goods[less]}?"


def _settled(rng: random.Random, sheet: Sheet, total: str, person: str, currency: str) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(
            (f"How many {currency} does {person} pay?", f"What does it cost together, in {currency}?")
        )
    if kind == 1:
        note = (int(float(total)) // 500 + 1) * 500
        sheet.compute("change", f"{note}-{total}")
        return rng.choice(
            (
                f"How much change does {person} get from {note} {currency}?",
                f"{person} had {note} {currency} before. How many are left?",
            )
        )
    if kind == 2:
        shipping = price(rng, 29)
        sheet.compute("with shipping", f"{total}+{shipping}")
        return f"Shipping costs another {shipping} {currency}. How many {currency} are to be paid in all?"
    share = rng.choice(_DISCOUNTS)
    off = sheet.compute("discount", f"{total}*{share}/100")
    sheet.compute("price", f"{total}-{off}")
    return rng.choice(
        (
            f"There is a discount of {share}%. How many {currency} does {person} pay?",
            f"The shop takes {share}% off. What is left to pay, in {currency}?",
        )
    )


def wages(rng: random.Random, sheet: Sheet) -> str:
    """Hours, days and weeks at a wage, less what is spent."""
    person, currency = rng.choice(PEOPLE), rng.choice(CURRENCIES)
    wage, hours, days = price(rng, 39), rng.randint(3, 11), rng.randint(12, 89)
    worked = sheet.compute("hours", f"{hours}*{days}")
    earned = sheet.compute("earned", f"{worked}*{wage}")
    work = f"{person} works {hours} hours a day for {days} days and gets {wage} {currency} an hour."
    help = (
        f"For {days} days {person} helps in a {rng.choice(PLACES)}, {hours} hours each day, and an hour is "
        f"paid with {wage} {currency}."
    )
    opening = rng.choice((work, help))
    kind = rng.randrange(3)
    if kind == 0:
        return f"{opening} How many {currency} does {person} earn?"
    if kind == 1:
        share = rng.choice(_DISCOUNTS)
        tax = sheet.compute("tax", f"{earned}*{share}/100")
        sheet.compute("kept", f"{earned}-{tax}")
        return f"{opening} {share}% of it goes to taxes. How many {currency} does {person} keep?"
    daily = rng.randint(2, max(3, int(float(wage))))
    spent = sheet.compute("spent", f"{daily}*{days}")
    sheet.compute("kept", f"{earned}-{spent}")
    return (
        f"{opening} Every day {person} spends {daily} {currency} on food. "
        f"How many {currency} are left in the end?"
    )


def savings(rng: random.Random, sheet: Sheet) -> str:
    """So much a week towards a price; the weeks come out even."""
    person, currency, thing = rng.choice(PEOPLE), rng.choice(CURRENCIES), rng.choice(GOODS)
    earns, weeks = rng.randint(60, 399), rng.randint(13, 88)
    spends = rng.randint(11, earns - 20)
    start = rng.randint(101, 1999)
    goal = (earns - spends) * weeks + start
    kept = sheet.compute("a week", f"{earns}-{spends}")
    lacking = sheet.compute("lacking", f"{goal}-{start}")
    sheet.compute("weeks", f"{lacking}/{kept}")
    machine = (
        f"{person} earns {earns} {currency} a week and spends {spends} of them. A machine for {thing} costs "
        f"{goal} {currency}, and {person} has {start} already. After how many weeks is it enough?"
    )
    wish = (
        f"{person} has {start} {currency} and wants a collection of {thing} for {goal}. Each week brings "
        f"{earns} {currency}, of which {spends} are spent. How many weeks does it take?"
    )
    return rng.choice((machine, wish))
