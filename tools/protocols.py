"""What a strategy that acts asks of a tool."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


def takes_text(name: str) -> Mapping[str, Any]:
    """The JSON schema of a tool that takes one text, which is called `name`."""
    return {
        "type": "object",
        "properties": {name: {"type": "string"}},
        "required": [name],
        "additionalProperties": False,
    }


ONE_TEXT = takes_text("argument")


@runtime_checkable
class Tool(Protocol):
    """Something outside of the search that a thought may call by its name, with one text as argument.

    What comes back is brought to text by `tools.calling`, and so is what is raised. A tool sees its argument
    and nothing else of the search. Both colours are called in a thread or a task that may be given up. A tool
    that takes more than one text says so by `parameters`, a JSON schema of an object: its argument is the
    text of such an object, or the only text in it.
    """

    @property
    def name(self) -> str:
        """How a model calls it: letters, digits, "_" and "-", not a digit first."""

    @property
    def description(self) -> str:
        """What it does and what its argument is, for the model to read."""

    @property
    def idempotent(self) -> bool:
        """Whether calling it again does no harm; a tool with effects is called on a committed path only."""

    def call(self, argument: str) -> object:
        """What the tool says to an argument; may block and may raise anything."""

    async def acall(self, argument: str) -> object:
        """The same without blocking the event loop."""


def parameters_of(tool: Tool) -> Mapping[str, Any]:
    """The JSON schema of what a tool takes."""
    own = getattr(tool, "parameters", None)
    return own if isinstance(own, Mapping) else ONE_TEXT
