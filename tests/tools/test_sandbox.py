"""The Python tool: what programs come to, and hostile ones, which get nowhere and end in time."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rlm_agent.structure.errors import InputError
from rlm_agent.tools.python import Python, code_in
from rlm_agent.tools.sandbox import Sandbox
from tests.tools.hostile import Canaries, flat, programs

ROOT = Path(__file__).parents[2]
SECRET = "canary-5e1f"
SECONDS = 0.2
TIGHT = Sandbox(seconds=SECONDS, megabytes=32)
LATEST = SECONDS + 0.25 + 5.0
"""When a program has ended: its limit, the grace of its worker, and what a busy machine may add."""

MOST_MEMORY = 128 * 2**10
"""Kilobytes that a worker may have taken, with monty itself and what it had not yet counted."""

MEASURED = """
import resource
from rlm_agent.tools.python import Python
from rlm_agent.tools.sandbox import Sandbox
from tests.tools.hostile import Canaries, programs
kinds = programs(Canaries("/a/b", "/a", 1, "V"))
for program in kinds["memory"] + kinds["recursion"]:
    Python(Sandbox(seconds=0.2, megabytes=32)).call(program)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


LEFT = """
import os
from rlm_agent.tools.sandbox import Sandbox
Sandbox(seconds=0.1).run("int('9' * 4000) ** 4000")
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("none is left")
"""


class Trap(NamedTuple):
    """Canaries, and the socket that listens."""

    at: Canaries
    listener: socket.socket

    def touched(self) -> list[str]:
        """What somebody has written or reached since it was set."""
        folder, file = Path(self.at.folder), Path(self.at.file)
        found = [] if file.is_file() and file.read_text() == SECRET else ["file"]
        found += [path.name for path in folder.iterdir() if path != file]
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return found
        return [*found, "socket"]


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    """A file, a variable and a port that nobody may touch."""
    monkeypatch.setenv("RLM_CANARY", SECRET)
    file = tmp_path / "folder" / "canary.txt"
    file.parent.mkdir()
    file.write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        yield Trap(Canaries(str(file), str(file.parent), port, "RLM_CANARY"), listener)


def test_there_are_enough_programs_each_is_python_and_none_stands_twice() -> None:
    listed = [program for _, program in flat(Canaries("/a/b", "/a", 1, "V"))]
    assert len(listed) == len(set(listed)) >= 300
    for program in listed:
        compile(program, "hostile", "exec")


def attempted(program: str, trap: Trap) -> tuple[str, float]:
    """What a program showed, and how long it took."""
    started = time.monotonic()
    shown = Python(TIGHT).call(program)
    return shown, time.monotonic() - started


def check(listed: list[tuple[str, str]], trap: Trap) -> None:
    """Run programs; each is tried in a sandbox of its own."""
    for kind, program in listed:
        shown, seconds = attempted(program, trap)
        assert SECRET not in shown and "canary" not in shown.replace(trap.at.file, ""), program
        assert kind != "look" or "found" not in shown, program
        assert kind != "look" or shown.startswith("Error: ") or shown == "[]", (program, shown)
        assert not trap.touched(), program
        assert seconds < LATEST, (program, seconds)
        assert len(shown) <= TIGHT.characters + 400, program


def test_a_sample_of_hostile_programs_gets_nowhere(trap: Trap) -> None:
    check([(kind, one) for kind, listed in programs(trap.at).items() for one in listed[::8]], trap)


@pytest.mark.slow  # the programs that never end take their time
def test_no_hostile_program_reads_writes_reaches_anything_or_outlasts_its_limit(trap: Trap) -> None:
    check(list(flat(trap.at)), trap)


@pytest.mark.slow
def test_no_hostile_program_takes_much_more_memory_than_it_may() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 0 < int(done.stdout.split()[-1]) < MOST_MEMORY


@pytest.mark.parametrize(
    ("kind", "number", "sign"),
    [
        ("read", 0, SECRET),
        ("read", 9, SECRET),
        ("look", 0, "canary.txt"),
        ("write", 0, "written"),
        ("network", 0, "socket"),
        ("environment", 0, SECRET),
        ("process", 0, "written"),
    ],
)
def test_the_canaries_tell_of_the_same_programs_outside_of_the_sandbox(
    trap: Trap, kind: str, number: int, sign: str
) -> None:
    program = programs(trap.at)[kind][number]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert sign in done.stdout or sign in trap.touched()


def test_no_worker_outlives_its_program() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "none is left\n"


def test_a_worker_that_does_not_stop_by_itself_is_killed() -> None:
    started = time.monotonic()
    ran = TIGHT.run("print('on')\nint('9' * 4000) ** 4000")
    assert ran.error == "TimeoutError: the time limit is exceeded"
    assert SECONDS < time.monotonic() - started < LATEST


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("1 + 1", "2"),
        ("print(6 * 7)", "42"),
        ("x = 3\nx * 2", "6"),
        ("for i in range(3):\n    print(i)", "0\n1\n2"),
        ("'abc'", "'abc'"),
        ("x = [1,\n2]", ""),
        ("x = [1,\n2]\nx\n\n# done", "[1, 2]"),
        ("x = '''\na\nb'''\nprint(x)", "\na\nb"),
        ("if True:\n    5", ""),
        ("None", ""),
        ("", ""),
        ("# nothing", ""),
        ("print(5)\n1 / 0", "5\nError: ZeroDivisionError: division by zero"),
        ("def f(:", "Error: SyntaxError: Expected a parameter or the end of the parameter list"),
        ("print(1)\nraise SyntaxError('no')", "1\nError: SyntaxError: no"),
        ("```python\nprint(3)\n```", "3"),
        ("import math\nmath.comb(10, 3)", "120"),
        ("import random\n[random.randint(0, 9) for _ in range(9)] == random.Random", "False"),
    ],
)
def test_a_program_shows_what_it_prints_and_the_value_of_its_last_line(code: str, shown: str) -> None:
    assert Python().call(code) == shown


def test_a_syntax_error_within_a_program_is_an_error_like_any_other() -> None:
    assert Python().call("print(1)\nexec('(')").startswith("1\nError: SyntaxError: ")
    with TIGHT.session() as session:
        assert session.run("(").unread, "nothing has run"
        assert session.run("1").error is None
        ran = session.run("exec('(')")
        assert not ran.unread and session.run("1").error == ran.error


def test_memory_is_counted_while_it_is_taken() -> None:
    fits, too_much = "len([0] * 10**5)", "len([0] * 10**7)"
    assert TIGHT.run(fits).printed == "100000\n"
    assert str(TIGHT.run(too_much).error).startswith("MemoryError: memory limit exceeded")


def test_programs_know_nothing_of_each_other_and_the_same_one_says_the_same() -> None:
    python = Python()
    python.call("x = 5")
    assert "NameError" in python.call("x")
    draw = "import random\nprint(random.random(), hash('a'), id([]))"
    assert python.call(draw) == python.call(draw)


def test_what_a_program_prints_is_bounded_and_the_beginning_kept() -> None:
    shown = Python(Sandbox(seconds=SECONDS, characters=50)).call("while True: print('ab')")
    assert shown.startswith("ab\nab\n")
    assert shown.endswith("Error: ValueError: the program prints more than 50 characters")
    assert len(shown) < 150


def test_a_program_that_is_too_long_is_not_run() -> None:
    assert Python().call("1 #" + "x" * 20_000) == (
        "Error: ValueError: the program is longer than 20000 characters"
    )


async def test_awaited_it_says_the_same() -> None:
    assert await Python().acall("6 * 7") == "42"


def test_the_last_fence_is_the_program() -> None:
    assert code_in("First:\n```\n1\n```\nBetter:\n```py\n2\n```\nDone.") == "2\n"
    assert code_in("```python\n3") == "3" and code_in("4") == "4"


@pytest.mark.parametrize(
    "limits", [{"seconds": 0}, {"megabytes": float("inf")}, {"recursion": -1}, {"characters": 0}]
)
def test_limits_that_let_nothing_run_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(InputError, match="give finite numbers above 0"):
        Sandbox(**limits)  # type: ignore[arg-type]
