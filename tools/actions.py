"""How a model writes that it wants to act, read by whitelisted regular expressions.

Source: ReAct (Yao et al., arXiv 2210.03629) for `Action: name[argument]` and `Finish[answer]`; the inline
`<<48/2=` of GSM8K's calculator annotations (Cobbe et al., arXiv 2110.14168). Text is read line by line, each
expression is anchored, and nothing is ever evaluated here.
"""

import re
from collections.abc import Container
from dataclasses import dataclass

OBSERVATION = "Observation: "
"""What an observation begins with. It is not the model's to write."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""What a tool may be called."""

FINISH = "finish"
"""The action that ends a chain, in any case of letters; no tool is called so."""

CALCULATOR = "calculator"
"""The tool that inline calls go to."""

_LABEL = re.compile(r"action(?: ?[0-9]{1,3})? ?:", re.IGNORECASE)
_CALL = re.compile(rf"({NAME.pattern}) ?\[(.*)\]", re.DOTALL)
_INLINE = re.compile(r"<<([^<>=]{1,300})=$")
_MOST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Call:
    """A tool's name and the text in its brackets."""

    name: str
    argument: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What was meant as a call and is none, and why."""

    reason: str


def read_action(text: str, names: Container[str]) -> Call | Unreadable | None:
    """The call that a step asks for, of a tool among `names`; None where it asks for none.

    A call ends its step: an action with something behind it is unreadable, and so are one of an unknown tool
    and one without brackets. Where a step has several lines, an argument may, too. An inline call stands at
    the end of a step, and goes to the calculator, if there is one.
    """
    lines = text.strip().splitlines()
    labelled = [place for place, line in enumerate(lines) if _LABEL.match(line.strip())]
    if not labelled:
        inline = _INLINE.search(lines[-1].strip()) if lines and CALCULATOR in names else None
        return Call(CALCULATOR, inline[1].strip()) if inline else None
    first = lines[labelled[0]]
    goes_on = first.count("[") > first.count("]") or labelled[0] == len(lines) - 1
    if len(labelled) > 1 or not goes_on:
        return Unreadable("an action is one line and ends its step; write nothing behind it")
    action = _unlabelled("\n".join(lines[labelled[0] :]).strip())
    call = _CALL.fullmatch(action)
    if call is None:
        return Unreadable(f"{action[:_MOST_SHOWN]!r} is no action; write Action: name[argument]")
    if call[1] not in names:
        return None if call[1].lower() == FINISH else Unreadable(f"there is no tool {call[1]!r}")
    return Call(call[1], call[2].strip())


def read_finish(text: str) -> str | None:
    """The answer in a step's last line, if that is `Finish[answer]`, labelled or not."""
    lines = _lines(text)
    call = _CALL.fullmatch(_unlabelled(lines[-1])) if lines else None
    return call[2].strip() if call is not None and call[1].lower() == FINISH else None


def claims_observation(text: str) -> bool:
    """Whether one of a step's lines looks like an observation."""
    return any(line.lower().startswith(OBSERVATION.strip().lower()) for line in _lines(text))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _unlabelled(line: str) -> str:
    return _LABEL.sub("", line, count=1).strip() if _LABEL.match(line) else line
