"""A comparison as a figure: accuracy against generated tokens, a line a strategy."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlm_agent.evaluation.comparison import Row
from rlm_agent.evaluation.files import require_place
from rlm_agent.structure.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FORMATS = (".svg", ".png")
_MARKERS = "osD^v<>PX*"
_COLOURS = 10  # of matplotlib's own cycle; the strategies beyond them are dashed


def require_plot(path: Path) -> None:
    """Raise before the searches what `plot` would raise after them: `InputError`, `MissingExtraError`."""
    if path.suffix not in _FORMATS:
        raise InputError(f"{path} is no figure; name a file that ends in {' or '.join(_FORMATS)}")
    require_place(path)
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error


def plot(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw rows into an SVG or PNG file; the same rows give the same file.

    A point is a strategy at a budget: accuracy with its 95% interval over the mean of the tokens generated,
    which is at most the budget.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, ScalarFormatter

    with rc_context({"svg.hashsalt": title}):
        figure = Figure(figsize=(10, 6), layout="constrained")
        axes = figure.add_subplot()
        for number, strategy in enumerate(dict.fromkeys(row.strategy for row in rows)):
            _line(axes, number, [row for row in rows if row.strategy == strategy])
        axes.set(xscale="log", ylim=(0, 1), title=title)
        axes.set(xlabel="generated tokens a problem, mean", ylabel="solved, with 95% intervals")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", fontsize="small")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})


def _line(axes: "Axes", number: int, rows: Sequence[Row]) -> None:
    """One strategy: its points joined from budget to budget, each in its interval."""
    axes.errorbar(
        [row.completion_tokens_mean for row in rows],
        [row.accuracy for row in rows],
        [[row.accuracy - row.ci95[0] for row in rows], [row.ci95[1] - row.accuracy for row in rows]],
        label=rows[0].strategy,
        color=f"C{number % _COLOURS}",
        linestyle="-" if number < _COLOURS else "--",
        marker=_MARKERS[number % len(_MARKERS)],
        markersize=5,
        elinewidth=0.8,
        capsize=2,
    )
