"""How a policy writes calls of tools, and the grammar that holds it to that."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from rlm_agent.models.protocols import Policy
from rlm_agent.tools.syntax import REACT, Syntax


@runtime_checkable
class Calling(Protocol):
    """A policy that has its own way to write calls."""

    @property
    def syntax(self) -> Syntax:
        """The way that it has learned, or that its chat template shows."""

    def call_grammar(self, tools: Sequence[tuple[str, Mapping[str, Any]]], syntax: Syntax) -> str | None:
        """A grammar (GBNF) of steps in which calls of tools, by name and schema, are well-formed; None for
        a syntax that needs none.
        """


def syntax_of(policy: Policy) -> Syntax:
    """How a policy writes calls, unless the caller says otherwise."""
    return policy.syntax if isinstance(policy, Calling) else REACT


def grammar_of(policy: Policy, tools: Sequence[tuple[str, Mapping[str, Any]]], syntax: Syntax) -> str | None:
    """The grammar for a policy's steps; None where it takes none."""
    return policy.call_grammar(tools, syntax) if isinstance(policy, Calling) else None
