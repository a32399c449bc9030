"""What a strategy that acts asks of a tool."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Tool(Protocol):
    """Something outside of the search that a thought may call by its name, with one text as argument.

    What comes back is brought to text by `tools.calling`, and so is what is raised. A tool sees its argument
    and nothing else of the search. Both colours are called in a thread or a task that may be given up.
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
