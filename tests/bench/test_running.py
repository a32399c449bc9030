"""Rounds, medians and ratios, with contenders that take a second each as told."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from rlm_agent.bench.contenders.base import Contender
from rlm_agent.bench.running import Turn, race, ratios, summary
from rlm_agent.bench.workload import LENGTH, Tokens, Tree, grow, make_tree
from rlm_agent.structure.errors import DecodeError

TREE = make_tree(range(9), prompt=5, branches=4, expansions=2)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Fake:
    """Takes `seconds` for all that it is asked, one number a round, and an hour to open."""

    name: str
    clock: Clock
    seconds: list[float]
    length: int = LENGTH
    about: str = "as told"
    log: list[str] = field(default_factory=list)

    def open(self) -> None:
        self.clock.now += 3600
        self.log.append("open")

    def play(self, trees: Sequence[Tree]) -> list[list[Tokens]]:
        self.log.append("play")
        self.clock.now += self.seconds[self.log.count("open") - 1]
        return [grow(tree, lambda branches: [(0,) * self.length for _ in branches]) for tree in trees]

    def forget(self) -> None:
        self.clock.now += 60
        self.log.append("forget")

    def close(self) -> None:
        self.log.append("close")


def test_turns_rotate_and_only_playing_takes_time() -> None:
    clock = Clock()
    contenders: list[Contender] = [Fake("a", clock, [1, 2, 4]), Fake("b", clock, [2, 2, 2])]
    turns: list[Turn] = []
    rates = race(contenders, [TREE], 3, turns.append, clock)
    assert TREE.tokens == 128
    assert rates == {"a": [128, 64, 32], "b": [64, 64, 64]}
    assert [turn.contender for turn in turns] == ["a", "b", "b", "a", "a", "b"]
    assert [turn.round for turn in turns] == [0, 0, 1, 1, 2, 2]


def test_each_turn_begins_warm_with_an_empty_cache_and_ends_closed() -> None:
    fake = Fake("a", Clock(), [1, 1])
    race([fake], [TREE, TREE], 2, clock=fake.clock)
    assert fake.log == ["open", "play", "forget", "play", "close"] * 2


def test_time_of_one_who_wrote_too_little_is_refused() -> None:
    fake = Fake("a", Clock(), [1], length=LENGTH - 1)
    with pytest.raises(DecodeError, match="a did not write 128 tokens"):
        race([fake], [TREE], 1, clock=fake.clock)
    assert fake.log[-1] == "close"


def test_summary_holds_medians_and_extremes() -> None:
    rows = summary({"a": [3, 1, 2], "b": [5, 5, 8]}, {"a": "this", "b": "that"})
    assert rows == [
        {"contender": "a", "tokens_per_second": 2, "min": 1, "max": 3, "about": "this"},
        {"contender": "b", "tokens_per_second": 5, "min": 5, "max": 8, "about": "that"},
    ]


def test_ratios_are_of_medians_to_the_better_of_a_group() -> None:
    rates = {"ours": [6.0, 5.0, 100.0], "one": [2.0], "two": [3.0]}
    groups = {"better": ["one", "two"], "one": ["one"], "absent": ["three"]}
    assert ratios(rates, ["ours", "nobody"], groups) == {"ours": {"better": 2.0, "one": 3.0}}
