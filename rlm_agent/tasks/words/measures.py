"""Word problems about speed, production, areas, recipes, comparisons and means."""

import random

from rlm_agent.tasks.calculations import Sheet
from rlm_agent.tasks.words.vocabulary import CURRENCIES, GOODS, PEOPLE, PLACES, PRODUCERS, TRAVELLERS


def journey(rng: random.Random, sheet: Sheet) -> str:
    """Two legs at two speeds; the distance, what is left of a way, or the fuel."""
    who = rng.choice(TRAVELLERS)
    fast, slow = rng.randint(41, 187), rng.randint(13, 89)
    first, second = rng.randint(4, 28), rng.randint(3, 26)
    legs = [sheet.compute("first", f"{fast}*{first}"), sheet.compute("second", f"{slow}*{second}")]
    far = sheet.compute("together", f"{legs[0]}+{legs[1]}")
    quick, slowly = f"{fast} km an hour", f"{slow} km an hour"
    opening = rng.choice(
        (
            f"A {who} goes {quick} for {first} hours and then {slowly} for {second} hours.",
            f"For {first} hours a {who} makes {quick}, for the next {second} hours only {slowly}.",
        )
    )
    kind = rng.randrange(3)
    if kind == 0:
        return f"{opening} How many km does it go in all?"
    if kind == 1:
        whole = int(far) + rng.randint(101, 2999)
        sheet.compute("left", f"{whole}-{far}")
        return f"{opening} The whole way is {whole} km. How many km are left?"
    use = f"{rng.randint(0, 9)}.{rng.randint(1, 99):02d}"
    sheet.compute("fuel", f"{far}*{use}")
    return f"{opening} It needs {use} litres of fuel for a km. How many litres does it need?"


def production(rng: random.Random, sheet: Sheet) -> str:
    """Machines, hours and days; rejects, then boxes or money."""
    things, maker = rng.choice(GOODS), rng.choice(PRODUCERS)
    machines, rate, hours = rng.randint(3, 29), rng.randint(21, 149), rng.randint(4, 19)
    hourly = sheet.compute("an hour", f"{machines}*{rate}")
    made, output = sheet.compute("made", f"{hourly}*{hours}"), f"{rate} {things} an hour"
    opening = rng.choice(
        (
            f"A {maker} has {machines} machines, and each makes {output}. They run for {hours} hours.",
            f"{machines} machines of a {maker} run for {hours} hours; every machine turns out {output}.",
        )
    )
    bad = rng.randint(12, 999)
    good = sheet.compute("good", f"{made}-{bad}")
    rejected = rng.choice((f"{bad} {things} are rejected.", f"Of the {things}, {bad} are faulty."))
    divisors = [number for number in range(4, 90) if int(good) > 0 and int(good) % number == 0]
    if divisors and rng.random() < 0.6:
        size = rng.choice(divisors)
        sheet.compute("boxes", f"{good}/{size}")
        return f"{opening} {rejected} The good ones are packed in boxes of {size}. How many boxes are filled?"
    return f"{opening} {rejected} How many good {things} are made?"


def field(rng: random.Random, sheet: Sheet) -> str:
    """A rectangle, what a square metre takes, and what that costs."""
    long, wide = rng.randint(23, 198), rng.randint(13, 97)
    area = sheet.compute("area", f"{long}*{wide}")
    opening = rng.choice(
        (
            f"A field is {long} m long and {wide} m wide.",
            f"The yard of a {rng.choice(PLACES)} measures {long} m by {wide} m.",
        )
    )
    grams, currency = rng.randint(12, 95), rng.choice(CURRENCIES)
    if rng.random() < 0.5:
        seed = sheet.compute("seed", f"{area}*{grams}")
        sheet.compute("kg", f"{seed}/1000")
        taken = f"A square metre takes {grams} g of seed."
        return f"{opening} {taken} How many kg of seed are needed for all of it?"
    cost = f"{rng.randint(1, 29)}.{rng.randint(1, 19) * 5:02d}"
    pond = rng.randint(11, int(area) // 2)
    left = sheet.compute("without the pond", f"{area}-{pond}")
    sheet.compute("cost", f"{left}*{cost}")
    return (
        f"{opening} A pond takes {pond} square metres of it, and the rest is paved at {cost} {currency} a "
        f"square metre. How many {currency} does that cost?"
    )


def recipe(rng: random.Random, sheet: Sheet) -> str:
    """So much for a few, how much for many."""
    few, each = rng.randint(3, 18), rng.randint(13, 189)
    many, amount = rng.randint(23, 189), few * each
    portion = sheet.compute("for one", f"{amount}/{few}")
    needed = sheet.compute("for all", f"{portion}*{many}")
    opening = rng.choice(
        (
            f"A soup for {few} people takes {amount} g of flour.",
            f"{amount} g of rice are enough for {few} guests.",
            f"With {amount} g of clay one can make {few} tiles.",
        )
    )
    if rng.random() < 0.5:
        return f"{opening} How many g does it take for {many}?"
    stored = int(needed) + rng.randint(23, 4999)
    sheet.compute("left", f"{stored}-{needed}")
    return f"{opening} There are {stored} g in store. How many g are left when it is made for {many}?"


def comparison(rng: random.Random, sheet: Sheet) -> str:
    """Three people, each compared with the one before; all together, or the mean."""
    things, (a, b, c) = rng.choice(GOODS), rng.sample(PEOPLE, 3)
    first, factor = rng.randint(34, 987), rng.randint(3, 29)
    second = sheet.compute(b, f"{first}*{factor}")
    offset = rng.randint(13, int(second) - 3)
    fewer = rng.random() < 0.5
    third = sheet.compute(c, f"{second}{'-' if fewer else '+'}{offset}")
    opening = (
        f"{a} has {first} {things}. {b} has {factor} times as many as {a}, and {c} has {offset} "
        f"{'fewer' if fewer else 'more'} than {b}."
    )
    total = sheet.compute("together", f"{first}+{second}+{third}")
    if int(total) % 3 == 0 and rng.random() < 0.7:
        sheet.compute("mean", f"{total}/3")
        return f"{opening} How many {things} do they have on average?"
    return f"{opening} How many {things} do the three have together?"


def mean(rng: random.Random, sheet: Sheet) -> str:
    """The mean of a few counts."""
    things, place, count = rng.choice(GOODS), rng.choice(PLACES), rng.randint(3, 5)
    counts = [rng.randint(102, 4998) for _ in range(count)]
    counts[-1] += -sum(counts) % count
    total = sheet.compute("total", "+".join(map(str, counts)))
    sheet.compute("mean", f"{total}/{count}")
    listed = f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"
    days = f"On {count} days a {place} counts {listed} {things}. How many is that on average?"
    rooms = (
        f"{count} trucks bring {listed} {things} to a {place}, which divides them evenly among as many rooms "
        f"as there are trucks. How many {things} are in a room?"
    )
    return rng.choice((days, rooms))
