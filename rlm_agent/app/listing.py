"""`rlm-agent strategies`: what there is."""

import inspect
from typing import Any

from rich.table import Table

from rlm_agent.graphs.reasoner import STRATEGIES, parameters_of


def strategy_rows() -> list[dict[str, Any]]:
    """Name, first sentence of the source's docstring, and own parameters with defaults, a row each."""
    return [
        {
            "strategy": name,
            "what": (inspect.getmodule(create).__doc__ or "").split("\n")[0],
            "parameters": parameters_of(create),
        }
        for name, create in STRATEGIES.items()
    ]


def strategy_table(rows: list[dict[str, Any]]) -> Table:
    """The rows as a table."""
    table = Table("strategy", "what it does", "parameters", show_lines=True)
    for row in rows:
        parameters = ", ".join(f"{name}={value}" for name, value in row["parameters"].items())
        table.add_row(row["strategy"], row["what"], parameters or "none")
    return table
