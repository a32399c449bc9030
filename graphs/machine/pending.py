"""SQL statements that wait for the transaction they will be part of."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any

Statement = tuple[str, Sequence[Sequence[Any]]]
"""What is executed, once for each of the rows."""

_log = logging.getLogger(__name__)


class Pending:
    """What is yet to be written, in its order; it notes down what a cursor would execute.

    A thread calls `write` every `delay` seconds as long as something comes. It is not made anew for each
    group, since who starts a thread waits for it, and that is an event loop here. Python waits for the thread
    when it exits.
    """

    def __init__(self, write: Callable[[], None], delay: float) -> None:
        self._write, self._delay = write, delay
        self._statements: list[Statement] = []
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None
        self._taken = threading.Event()

    def __len__(self) -> int:
        return len(self._statements)

    def execute(self, sql: str, row: Sequence[Any]) -> None:
        """As a cursor's, later."""
        self.executemany(sql, [row])

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """As a cursor's, later."""
        with self._lock:
            self._statements.append((sql, rows))

    def within_time(self) -> None:
        """See to it that `write` is called when the delay has passed."""
        with self._lock:
            if self._writer is None:
                self._taken = threading.Event()
                self._writer = threading.Thread(target=self._keep_writing, args=(self._taken,))
                self._writer.start()

    def take(self) -> list[Statement]:
        """All that is pending, which no longer is then; the thread ends if another one takes it."""
        with self._lock:
            if self._writer is not threading.current_thread():
                self._writer = None
                self._taken.set()
            taken, self._statements = self._statements, []
        return taken

    def give_back(self, statements: list[Statement]) -> None:
        """What was taken could not be written: it stays in front of what has come since."""
        with self._lock:
            self._statements = statements + self._statements

    def _keep_writing(self, taken: threading.Event) -> None:
        while not taken.wait(self._delay) and self._is_wanted():
            try:
                self._write()
            except sqlite3.Error as error:  # whoever stores or reads next is told as well
                self._is_wanted(False)
                _log.warning("checkpoints are not written yet: %s", error)
                return

    def _is_wanted(self, still: bool = True) -> bool:
        """Whether this thread is the writer and has something to write; else it is the writer no more."""
        with self._lock:
            is_writer = self._writer is threading.current_thread()
            wanted = still and is_writer and bool(self._statements)
            if is_writer and not wanted:
                self._writer = None
        return wanted
