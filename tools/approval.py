"""Calls that somebody has to approve before they are made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rlm_agent.structure.ids import fingerprint
from rlm_agent.tools.protocols import Tool


@dataclass(frozen=True, slots=True)
class Pending:
    """A call that waits: of which thought, of which tool, and with what argument."""

    thought: str
    tool: str
    argument: str

    @property
    def id(self) -> str:
        """What tells the call from all others; it says nothing of who approves it."""
        return fingerprint(self.thought, self.tool, self.argument)


class Gate(Protocol):
    """Whoever approves calls."""

    @property
    def identity(self) -> str:
        """What decides which calls wait; stored with a run."""

    def wants(self, tool: Tool) -> bool:
        """Whether calls of a tool wait for an approval."""

    def decide(self, calls: Sequence[Pending]) -> list[str | None]:
        """For each call None, which approves it, or why it is not made. May suspend the search."""
