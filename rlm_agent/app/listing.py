"""`rlm-agent strategies`: what there is, as a table, and as a page with the state machines drawn."""

import inspect
from collections.abc import Callable
from typing import Any

from rich.table import Table

from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.reasoner import STRATEGIES, parameters_of
from rlm_agent.models.fake import FakePolicy, FakeValue
from rlm_agent.structure.errors import InputError

_HEAD = """\
# Strategies

Every strategy as its state machine, with the parameters that it has beside those that all share
(`create_reasoner`). Made by `rlm-agent strategies --markdown`; a test holds that it is up to date.
"""


def strategy_rows() -> list[dict[str, Any]]:
    """Name, first sentence of the source's docstring, and own parameters with defaults, a row each."""
    return [
        {"strategy": name, "what": _what(create), "parameters": parameters_of(create)}
        for name, create in STRATEGIES.items()
    ]


def strategy_table() -> Table:
    """The rows as a table."""
    table = Table("strategy", "what it does", "parameters", show_lines=True)
    for row in strategy_rows():
        parameters = ", ".join(f"{name}={value}" for name, value in row["parameters"].items())
        table.add_row(row["strategy"], row["what"], parameters or "none")
    return table


def strategy_page() -> str:
    """All strategies as a page of Markdown: what each does, its parameters, its state machine in Mermaid."""
    return "\n".join([_HEAD, *(_section(name, create) for name, create in STRATEGIES.items())]).rstrip()


def _section(name: str, create: Callable[..., Reasoner]) -> str:
    parameters = [f"`{key}={value!r}`" for key, value in parameters_of(create).items()]
    own = ", ".join(parameters) or "none"
    return f"## {name}\n\n{_what(create)}\n\nParameters of its own: {own}.\n\n{_drawing(create)}\n"


def _drawing(create: Callable[..., Reasoner]) -> str:
    """The graph over a model that thinks nothing, or why there is none yet."""
    try:
        reasoner = create(FakePolicy(lambda question, prefix: []), value=FakeValue(lambda steps: 0.5))
    except InputError as error:
        return f"Its state machine depends on what it is given: {error}."
    return f"```mermaid\n{reasoner.get_graph().draw_mermaid().strip()}\n```"


def _what(create: Callable[..., Reasoner]) -> str:
    return (inspect.getmodule(create).__doc__ or "").split("\n")[0]
