"""Rows, paired with those of a baseline."""

import pytest

from rlm_agent.evaluation.comparison import choose_baseline, compare
from rlm_agent.evaluation.runs import Cell, Result
from rlm_agent.structure.errors import UnknownNameError

SAMPLING = "best_of_n:n=1000,parallel=1"


def results(solved: str, tokens: int) -> list[Result]:
    """A problem for each letter, solved where it is an x."""
    return [
        Result(str(number), "1", letter == "x", "exhausted", 3, 10, tokens, 3, 0.5)
        for number, letter in enumerate(solved)
    ]


def test_row_is_compared_with_the_baseline_at_its_own_budget() -> None:
    found = {
        Cell("chain", 100): results("x.x..", 20),
        Cell("mcts", 100): results("xxx..", 90),
        Cell("chain", 200): results("x....", 20),
        Cell("mcts", 200): results("..xxx", 150),
    }
    first, second, third, fourth = compare(found, "chain")
    assert (first.difference, third.difference) == (None, None)
    assert (first.accuracy, first.completion_tokens_mean, first.seconds_mean) == (0.4, 20.0, 0.5)
    assert second.difference is not None and fourth.difference is not None
    assert (second.difference.accuracy, second.difference.p_value) == (0.2, 1.0)
    assert (fourth.difference.accuracy, fourth.difference.p_value) == (0.4, 0.625)
    narrow, wide = second.difference.ci95, fourth.difference.ci95
    assert narrow[1] - narrow[0] < wide[1] - wide[0]  # the same problems solved say more than other ones


def test_baseline_is_sampling_where_it_takes_part_else_the_first() -> None:
    assert choose_baseline(["mcts", SAMPLING], None) == SAMPLING
    assert choose_baseline(["mcts", "best_of_n"], None) == "mcts"


def test_baseline_is_named_by_its_text_or_by_its_name() -> None:
    texts = ["mcts:branching=2", "mcts", "chain"]
    assert choose_baseline(texts, "mcts") == "mcts"
    assert choose_baseline(texts[::2], "mcts") == "mcts:branching=2"
    with pytest.raises(UnknownNameError, match="'dvts' is not compared"):
        choose_baseline(texts, "dvts")
