"""Verifiers of code: a candidate runs with its tests in a sandbox."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm_agent.structure.steps import Verdict, Verifier
from rlm_agent.tools.python import code_in
from rlm_agent.tools.sandbox import Sandbox, Session, monty

Cases = Sequence[tuple[str, Any]]
"""Expressions, and what each has to be: numbers, texts, None, and lists, tuples and dicts of them."""


def code_verifier(tests: str | Cases, sandbox: Sandbox | None = None) -> Verifier:
    """A verifier of programs: a candidate is right where it runs and its tests pass.

    tests: a program of assertions that runs behind the candidate, or cases such as `("add(1, 2)", 3)`.
        Only with cases the comparison happens outside of the sandbox, where no candidate can forge it: with
        assertions, an object of its own may claim to equal anything.
    sandbox: the limits, for the candidate and for each test.

    The candidate is the last fenced block of the answer, or all of it. The question is not looked at.
    Raises `MissingExtraError` without pydantic-monty.
    """
    monty()
    return _CodeVerifier(tests if isinstance(tests, str) else tuple(tests), sandbox or Sandbox())


@dataclass(frozen=True, slots=True)
class _CodeVerifier:
    tests: str | Cases
    sandbox: Sandbox = field(default_factory=Sandbox)

    def __call__(self, question: str, answer: str, /) -> Verdict:
        with self.sandbox.session() as session:
            ran = session.run(code_in(answer))
            if ran.error is not None:
                return Verdict(False, f"the code fails: {ran.error}")
            if isinstance(self.tests, str):
                ran = session.run(self.tests)
                return Verdict(ran.error is None, f"a test fails: {ran.error}" if ran.error else "")
            failed = (reason for case in self.tests if (reason := _failure(session, *case)))
            reason = next(failed, "")
            return Verdict(not reason, reason)


def _failure(session: Session, expression: str, expected: Any) -> str:
    """Why a case fails; an empty text where it does not."""
    ran = session.value(expression)
    if ran.error is not None:
        return f"{expression} fails: {ran.error}"
    return "" if _same(ran.value, expected) else f"{expression} is not {expected!r}"


def _same(value: Any, expected: Any) -> bool:
    """Whether plain data are equal and of one kind; an integer may be a float of the same value."""
    if isinstance(expected, bool) or isinstance(value, bool) or expected is None:
        return value is expected
    if isinstance(expected, int | float):
        return isinstance(value, int | float) and bool(value == expected)
    if type(value) is not type(expected):
        return False
    if isinstance(expected, list | tuple):
        return len(value) == len(expected) and all(map(_same, value, expected))
    if isinstance(expected, dict):
        return value.keys() == expected.keys() and all(_same(value[key], expected[key]) for key in expected)
    return bool(value == expected)
