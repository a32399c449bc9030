"""Python as a tool: programs that compute something, in a sandbox."""

import re

from rlm_agent.tools.calling import ERROR, Threaded
from rlm_agent.tools.protocols import takes_text
from rlm_agent.tools.sandbox import Sandbox

_FENCED = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


class Python(Threaded):
    """The tool `python`: what a program prints, and the value of its last line.

    A program sees nothing but itself: neither files nor the network, the environment, the clock or an earlier
    program. `sandbox` holds its limits. What it prints before it fails is shown with the error.
    """

    name = "python"
    description = (
        "Runs a Python program and shows what it prints and the value of its last line. Only pure modules "
        "such as math, re, json, itertools and datetime can be imported."
    )
    idempotent = True
    parameters = takes_text("code")

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self.sandbox = sandbox or Sandbox()

    def call(self, argument: str) -> str:
        """What a program shows. Raises `MissingExtraError` without pydantic-monty."""
        ran = self.sandbox.run(code_in(argument))
        failed = f"{ERROR}{ran.error}" if ran.error is not None else ""
        return "\n".join(filter(None, (ran.printed.rstrip(), failed)))


def code_in(text: str) -> str:
    """The program in a text: what stands in its last fence, or else all of it."""
    fenced = _FENCED.findall(text)
    return str(fenced[-1]) if fenced else text
