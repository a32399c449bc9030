"""Python programs that nobody trusts, run by pydantic-monty: an interpreter that has no way out.

A program runs in a worker process of its own, which ends with it. Monty counts its time, memory and depth as
it goes, and refuses files, variables of the environment, the clock and all imports but a few pure modules.
One operation on huge integers is not interrupted by that, so the worker is killed a little after its limit.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rlm_agent.structure.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from pydantic_monty import MontySession

_GRACE = 0.25
"""Seconds in which a worker may stop by itself before it is killed."""

_SLACK = 5.0
"""Seconds beyond that for which a worker may hang on this process; it never should."""

_LONGEST = 20_000
_MOST_REQUESTS = 100
_MOST_SHOWN = 300
_BEGUN = "__begun__"


@dataclass(slots=True)
class Ran:
    """What a program printed, the value of its last line, and why it ended early; None where it did not.

    `value` is set by `Session.value` alone. `unread` says that it is no program, so that nothing of it ran.
    """

    printed: str = ""
    error: str | None = None
    unread: bool = False
    value: Any = None


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The limits of a program: `seconds`, `megabytes` of its objects, calls in calls, characters of output.

    Raises `InputError` for numbers that are not above 0 and finite.
    """

    seconds: float = 5.0
    megabytes: float = 64.0
    recursion: int = 200
    characters: int = 10_000

    def __post_init__(self) -> None:
        numbers = (self.seconds, self.megabytes, self.recursion, self.characters)
        if not all(0 < number < math.inf for number in numbers):
            raise InputError(f"{self} lets no program run; give finite numbers above 0")

    def run(self, code: str) -> Ran:
        """What a program comes to; the value of its last line, if that is an expression, is printed.

        Never raises for what the program does. Raises `MissingExtraError` without pydantic-monty.
        """
        with self.session() as session:
            ran = session.run(_showing(code))
            return session.run(code) if ran.unread else ran

    @contextmanager
    def session(self) -> Iterator["Session"]:
        """A session: what one program has defined, the next one of it sees. Each has the time for itself.

        Raises `MissingExtraError` without pydantic-monty.
        """
        pool = monty().Monty(
            min_processes=0,
            max_processes=1,
            request_timeout=self.seconds + _GRACE + _SLACK,
            feed_duration_limit_grace=_GRACE,
        )
        with pool, pool.checkout(
            limits={
                "max_feed_duration_secs": self.seconds,
                "max_memory": int(self.megabytes * 2**20),
                "max_recursion_depth": self.recursion,
                "max_suspensions": _MOST_REQUESTS,
                "max_total_sleep_secs": 0,
            },
            # Nothing differs from run to run, so that a repeated search meets the same observations.
            os_policy={"datetime": "call_host", "sleep": "zero", "random_start": {"seed": 0}},
        ) as worker:  # fmt: skip
            yield Session(worker, self.characters)


@dataclass(slots=True)
class Session:
    """Programs that run one after another in one worker, until one of them has failed."""

    worker: "MontySession"
    characters: int
    failed: str | None = field(default=None, init=False)

    def run(self, code: str) -> Ran:
        """What a program prints; its last value stays where it is, since it may be of any size."""
        return self._ran(f"{_BEGUN} = True\n{code}\nNone", code)

    def value(self, expression: str) -> Ran:
        """The value of an expression, as plain data, or as something that equals no such data."""
        return self._ran(expression, expression)

    def _begun(self) -> bool:
        """Whether a program ran at all: what it compiles itself may be no Python as well."""
        try:
            self.worker.feed_run(_BEGUN)
        except monty().MontyError:
            return False
        return True

    def _ran(self, code: str, written: str) -> Ran:
        if self.failed is not None:
            return Ran(error=self.failed)
        if len(written) > _LONGEST:
            return Ran(error=f"ValueError: the program is longer than {_LONGEST} characters")
        errors = monty()
        ran, kept = Ran(), _Kept(self.characters)
        try:
            ran.value = self.worker.feed_run(code, print_callback=kept)
        except errors.MontySyntaxError as error:
            ran.error, ran.unread = _told(error), not self._begun()
            self.failed = None if ran.unread else ran.error
        # Some values cannot cross over, which is told by an ordinary exception.
        except (errors.MontyError, ValueError, TypeError, RecursionError) as error:
            ran.error = self.failed = _told(error)
        if kept.full:
            ran.error = f"ValueError: the program prints more than {self.characters} characters"
        ran.printed = kept.text
        return ran


def monty() -> Any:
    """The package pydantic-monty. Raises `MissingExtraError` without it."""
    try:
        import pydantic_monty
    except ImportError as error:
        raise MissingExtraError("pydantic-monty", "tools") from error
    return pydantic_monty


class _Kept:
    """The beginning of what is printed; where there is more, the program is stopped."""

    def __init__(self, most: int) -> None:
        self.text, self.full = "", False
        self._most = most

    def __call__(self, stream: Literal["stdout", "stderr"], text: str) -> None:
        room = self._most - len(self.text)
        self.text += text[:room]
        if len(text) > room:
            self.full = True
            raise ValueError("too much output")


def _told(error: Exception) -> str:
    """An error as the last line of a traceback says it."""
    display = getattr(error, "display", None)
    text = str(display("type-msg")) if display is not None else f"{type(error).__name__}: {error}"
    if getattr(error, "timed_out", False):
        text = "TimeoutError: the time limit is exceeded"
    return " ".join(text[: 2 * _MOST_SHOWN].split())[:_MOST_SHOWN]


def _showing(code: str) -> str:
    """A program that prints the value of its last line as well, wherever that is a whole expression.

    Where it is none, what is made here is no Python, and nothing of it runs.
    """
    lines = code.split("\n")
    while lines and lines[-1].lstrip()[:1] in ("", "#"):
        lines.pop()
    *before, last = lines or [""]
    if not last.strip() or last[0].isspace():
        return code
    shown = f"__shown__ = (\n{last}\n)\nif __shown__ is not None: print(repr(__shown__))"
    return "\n".join([*before, shown])
