"""Ctrl-C: a sentence instead of a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def stoppable(hint: str) -> Iterator[None]:
    """On Ctrl-C, say that the command was stopped and what can be done next; exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"rlm-agent: stopped; {hint}", file=sys.stderr)
        raise typer.Exit(130) from None
