"""What the word problems are about."""

PEOPLE = (
    "Mira Tomas Ilse Jarek Nadia Oskar Petra Ruben Selma Viktor Wanda Yusuf Zora Anton Berta Cyril Dora Emil "
    "Frida Gustav Hanna Ivo Juna Karl Lotte Milan Nora Otto Pia Rosa"
).split()
GOODS = (
    "pears plums lemons melons onions nails screws bolts tiles bricks candles buttons beads marbles stamps "
    "pencils erasers notebooks postcards balloons whistles ribbons sponges corks spoons mugs bowls jars "
    "lanterns cushions ropes hooks hinges planks seedlings bulbs shells feathers"
).split()
BOXES = (
    ("box", "boxes"),
    ("crate", "crates"),
    ("bag", "bags"),
    ("carton", "cartons"),
    ("basket", "baskets"),
    ("sack", "sacks"),
    ("chest", "chests"),
    ("barrel", "barrels"),
)
PLACES = "shop warehouse market school museum workshop farm bakery depot harbour theatre library".split()
PRODUCERS = "factory workshop mill press foundry kiln".split()
TRAVELLERS = "ferry train lorry cyclist bus balloon tram barge courier drone".split()
CURRENCIES = ("dollars", "euros")
