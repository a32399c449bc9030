"""The rows of a comparison as a table: for the terminal, and in Markdown."""

from collections.abc import Sequence
from itertools import pairwise

from rich.table import Table

from rlm_agent.evaluation.comparison import Row


def terminal_table(title: str, rows: Sequence[Row], baseline: str) -> Table:
    """The rows, with a rule between budgets."""
    table = Table(title=title)
    longest = max(len(row.strategy.partition(":")[0]) for row in rows)
    for heading in _cells(rows[0], rows, baseline):
        if heading == "strategy":
            table.add_column(heading, overflow="fold", min_width=longest)
        else:
            table.add_column(heading, justify="right")
    for row, following in pairwise([*rows, rows[0]]):
        ends = row.budget_tokens != following.budget_tokens
        table.add_row(*_cells(row, rows, baseline).values(), end_section=ends)
    return table


def markdown_table(rows: Sequence[Row], baseline: str) -> str:
    """The rows in GitHub's Markdown."""
    lines = [list(_cells(rows[0], rows, baseline, mark="`"))]
    lines += [["---"] * len(lines[0])]
    lines += [list(_cells(row, rows, baseline, mark="`").values()) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Row, rows: Sequence[Row], baseline: str, mark: str = "") -> dict[str, str]:
    """What stands in a row by column; budgets and differences only where the rows have several.

    `mark` encloses the names of strategies.
    """
    cells = {"budget": f"{row.budget_tokens:,}"} if len({other.budget_tokens for other in rows}) > 1 else {}
    cells["strategy"] = f"{mark}{row.strategy}{mark}"
    cells["solved"] = f"{row.accuracy:.1%}"
    cells["95% interval"] = "{:.1%} to {:.1%}".format(*row.ci95)
    if any(other.difference for other in rows):
        cells[f"points against {mark}{baseline}{mark}"] = _points(row)
        cells["p"] = _p_value(row)
    cells["tokens a problem"] = f"{row.completion_tokens_mean:.0f}"
    cells["seconds a problem"] = f"{row.seconds_mean:.2f}"
    return cells


def _points(row: Row) -> str:
    """The difference in points of a hundred, with its interval."""
    if row.difference is None:
        return ""
    shown = "{:+.1f} ({:+.1f} to {:+.1f})"
    return shown.format(*(100 * share for share in (row.difference.accuracy, *row.difference.ci95)))


def _p_value(row: Row) -> str:
    if row.difference is None:
        return ""
    return f"{row.difference.p_value:.3f}" if row.difference.p_value >= 0.001 else "< 0.001"
