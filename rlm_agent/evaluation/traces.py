"""Traces in files: a search as the list of what it did, which trace-based supervision learns from.

Trace-based supervision (Besta et al., arXiv 2501.11223) wants every call of an operator, traversal included,
and not the answer alone. In files each event is a line of JSON, with the question that it belongs to.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlm_agent.evaluation.files import append_rows, read_rows, write_rows
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.structure.events import DEEDS, Event


def trace_rows(question: str, events: Sequence[Event]) -> list[dict[str, Any]]:
    """The lines of a trace: each event that tells what was done, behind its question."""
    return [{"question": question, **event} for event in events if event["event"] in DEEDS]


class TraceLog:
    """The traces of many searches in one file, in the order in which the searches ended."""

    def __init__(self, path: Path) -> None:
        """Open a file or begin one; a trace without its end is taken out.

        Raises `CheckpointError` where the file has a line that is no event.
        """
        self.path = path
        rows = read_rows(path)
        try:
            self._questions = {row["question"] for row in rows if row["event"] == "answer"}
            whole = [row for row in rows if row["question"] in self._questions]
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{path} has a line that is no event; name another folder") from error
        if len(whole) < len(rows):
            write_rows(path, whole)

    def __contains__(self, question: str) -> bool:
        return question in self._questions

    def add(self, question: str, events: Sequence[Event]) -> None:
        """Keep the trace of a search that has ended, unless there is one already."""
        if question not in self._questions:
            append_rows(self.path, trace_rows(question, events))
            self._questions.add(question)
