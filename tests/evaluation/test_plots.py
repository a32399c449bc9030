"""The figure of a comparison."""

import sys
from pathlib import Path

import pytest

from rlm_agent.evaluation.comparison import Row
from rlm_agent.evaluation.plots import plot, require_plot
from rlm_agent.structure.errors import InputError, MissingExtraError

ROWS = [
    Row(name, budget, share, (share - 0.05, share + 0.05), budget * 0.6, 0.1, None)
    for name, share in (("chain", 0.3), ("mcts", 0.8))
    for budget in (500, 1000)
]


def test_figure_names_every_strategy_and_is_the_same_each_time(tmp_path: Path) -> None:
    pages = []
    for name in ("first.svg", "second.svg"):
        plot(ROWS, "countdown, 300 problems", tmp_path / name)
        pages.append((tmp_path / name).read_text())
    assert pages[0] == pages[1]
    for label in ("chain", "mcts", "countdown, 300 problems"):
        assert f"<!-- {label} -->" in pages[0]


def test_more_strategies_than_colours_can_be_drawn_as_png(tmp_path: Path) -> None:
    rows = [Row(f"s{number}", 500, 0.5, (0.4, 0.6), 300 + number, 0.1, None) for number in range(24)]
    plot(rows, "many", tmp_path / "many.png")
    assert (tmp_path / "many.png").read_bytes().startswith(b"\x89PNG")


def test_figure_that_cannot_be_drawn_is_refused_before_the_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"\.svg or \.png"):
        require_plot(tmp_path / "figure.jpeg")
    with pytest.raises(InputError, match="cannot be written"):
        require_plot(tmp_path / "none" / "figure.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"rlm-agent\[plot\]"):
        require_plot(tmp_path / "figure.svg")
