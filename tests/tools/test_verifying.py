"""Verifiers of code: which candidates pass, and that none passes by a trick."""

from typing import Any

import pytest

from rlm_agent.structure.steps import Verifier
from rlm_agent.tools.sandbox import Sandbox
from rlm_agent.tools.verifying import code_verifier

QUICK = Sandbox(seconds=0.3)
RIGHT = "def add(a, b):\n    return a + b"
CASES = (("add(1, 2)", 3), ("add([1], [2])", [1, 2]))
ASSERTIONS = "assert add(1, 2) == 3\nassert add([1], [2]) == [1, 2]"
BOTH = pytest.mark.parametrize("verify", [code_verifier(CASES, QUICK), code_verifier(ASSERTIONS, QUICK)])


@BOTH
@pytest.mark.parametrize(
    "answer", [RIGHT, f"Here it is:\n```python\n{RIGHT}\n```\nDone.", f"{RIGHT}\nprint(add(0, 0))"]
)
def test_a_right_candidate_passes(verify: Verifier, answer: str) -> None:
    assert verify("q", answer).correct


@BOTH
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("def add(a, b):\n    return 3", ""),
        ("def add(a, b):\n    return a - b", ""),
        ("def add(a, b", "the code fails: SyntaxError"),
        ("", ""),
        ("raise SystemExit", "the code fails: SystemExit"),
        ("while True: pass", "the code fails: TimeoutError"),
        ("def add(a, b):\n    while True: pass", "TimeoutError"),
        ("def add(a, b):\n    return [0] * 10**10", "MemoryError"),
        ("def add(a, b):\n    return add(a, b)", "RecursionError"),
        (f"{RIGHT}\n'''", "the code fails: SyntaxError"),
        (f"{RIGHT}\nimport os\nos.environ", "the code fails: "),
        ("def add(a, b):\n    raise ValueError(open('/etc/passwd').read())", "PermissionError"),
    ],
)
def test_a_wrong_candidate_fails_with_its_reason(verify: Verifier, answer: str, reason: str) -> None:
    verdict = verify("q", answer)
    assert not verdict.correct and reason in verdict.reason and verdict.reason


@pytest.mark.parametrize(
    "answer",
    [
        "class A:\n    def __eq__(self, other): return True\ndef add(a, b): return A()",
        "def add(a, b): return True",
        "def add(a, b): return '3'",
        "def add(a, b): return (1, 2)",
        "def add(a, b):\n    x = [0]\n    for _ in range(99): x = [x, x]\n    return x",
        "def add(a, b):\n    x = []\n    x.append(x)\n    return x",
        "def add(a, b): return add",
    ],
)
def test_no_object_of_the_candidate_passes_for_the_expected_one(answer: str) -> None:
    assert not code_verifier(CASES, QUICK)("q", answer).correct


@pytest.mark.parametrize(
    ("expression", "expected", "same"),
    [
        ("1", True, False), ("True", 1, False), ("True", True, True), ("None", None, True),
        ("0", None, False), ("{1, 2}", {1, 2}, True),
        ("2.0", 2, True), ("'a'", "a", True), ("'a'", "b", False), ("(1, 2)", (1, 2), True),
        ("[1, 2]", (1, 2), False),
        ("{'a': [1]}", {"a": [1]}, True), ("{'a': [2]}", {"a": [1]}, False), ("{}", {"a": 1}, False),
        ("float('nan')", float("nan"), False), ("[1, [2, [3]]]", [1, [2, [3]]], True),
    ],
)  # fmt: skip
def test_values_are_compared_as_plain_data(expression: str, expected: Any, same: bool) -> None:
    assert code_verifier([(expression, expected)], QUICK)("q", "pass").correct is same


def test_each_case_has_its_own_time() -> None:
    slow = "def f(n):\n    for _ in range(10**5): pass\n    return n"
    assert code_verifier([(f"f({n})", n) for n in range(20)], Sandbox(seconds=1))("q", slow).correct
