"""A Graph of Thoughts that sorts 32 numbers (Besta et al., arXiv 2308.09687): split, sort, join, improve.

A scripted policy stands for the model: it sorts what it reads, with more mistakes in longer lists.
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from rlm_agent import (
    Aggregate,
    Budget,
    FakePolicy,
    Generate,
    Improve,
    KeepBest,
    Score,
    Selector,
    create_graph_of_thoughts,
)

NUMBERS = "3 7 0 2 8 1 2 2 2 4 7 8 5 5 3 9 4 3 5 6 6 4 4 5 2 0 9 3 3 9 2 1"


def sorter(prompt: str, prefix: str) -> Sequence[tuple[str, float, bool]]:
    """What the model may say: for a split the two halves, else the sorted list with up to four mistakes."""
    numbers = re.findall(r"\d", prompt)
    half = len(numbers) // 2
    if prompt.startswith("Split"):
        return [(f"{' '.join(numbers[:half])} | {' '.join(numbers[half:])}", 0.0, True)]
    return [
        (spoiled(sorted(numbers), mistakes), -mistakes / 2, True) for mistakes in range(len(numbers) // 7)
    ]


def spoiled(numbers: list[str], mistakes: int) -> str:
    """The list with so many neighbours swapped."""
    places = [place for place in range(len(numbers) - 1) if numbers[place] < numbers[place + 1]]
    for place in places[: 2 * mistakes : 2]:
        numbers[place], numbers[place + 1] = numbers[place + 1], numbers[place]
    return " ".join(numbers)


def without_errors(part: slice) -> Callable[[str, str], float]:
    """Scores a text against a part of the question: 1 / (1 + descents + digits too many or too few)."""

    def score(question: str, text: str) -> float:
        given, numbers = question.split()[part], text.split()
        disorder = sum(first > second for first, second in pairwise(numbers))
        missing = sum(abs(numbers.count(digit) - given.count(digit)) for digit in "0123456789")
        return 1 / (1 + disorder + missing)

    return score


SORT = "Sort these numbers: {input}"
ALL = without_errors(slice(0, 32))
operations = [
    Generate(
        "split", ask="Split this list in two: {question}", parts=2, parse=lambda text: text.split(" | ")
    ),
    Selector("left", choose=lambda question, halves: [0]),
    Generate("sort_left", k=5, ask=SORT),
    Score("score_left", by=without_errors(slice(0, 16))),
    KeepBest("best_left"),
    Selector("right", choose=lambda question, halves: [1], after=["split"]),
    Generate("sort_right", k=5, ask=SORT),
    Score("score_right", by=without_errors(slice(16, 32))),
    KeepBest("best_right"),
    Aggregate("join", k=10, ask="Merge these lists:\n{inputs}", after=["best_left", "best_right"]),
    Score("score_join", by=ALL),
    KeepBest("best_join"),
    Improve("improve", k=10, ask="Some of these may be in the wrong place, mend that: {input}"),
    Score("score_improved", by=ALL, after=["improve", "best_join"]),
    KeepBest("best"),
]

reasoner = create_graph_of_thoughts(
    FakePolicy(sorter), operations=operations, budget=Budget(tokens=2000), seed=2
)
print(reasoner.get_graph().draw_mermaid())
result = reasoner.invoke({"messages": [("user", NUMBERS)]})
print("sorted:", result["answer"], f"by {result['usage']['model_calls']} calls")
print("score:", ALL(NUMBERS, result["answer"]))
