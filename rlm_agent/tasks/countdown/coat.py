"""Countdown as a chain of action-thought: one long chain that looks back and starts again where it erred.

Source: Satori (Shen et al., arXiv 2502.02508), whose meta-action tokens open each step. Deviations: here they
are plain text, and a reflection says in so many words where the chain goes on:

    <|continue|>13 - 9 = 4 | 4 4 10
    <|continue|>10 + 4 = 14 | 4 14
    <|reflect|>back to 1
    <|explore|>10 - 4 = 6 | 4 6
    <|continue|>6 * 4 = 24

The *path* is what a chain amounts to: the steps that no reflection took back.
"""

import re
from collections.abc import Callable, Sequence

from rlm_agent.structure.metaactions import EXPLORE, REFLECT, TAGS, split_tag
from rlm_agent.structure.steps import Checked, Steps
from rlm_agent.tasks.countdown.checker import answer, check_step

_BACK = re.compile(r"back to ([0-9]{1,2})")
_MAX_TOKENS, _MAX_STEPS = 40, 40
_DUE = "?"
"""Ends a state after a reflection: the next step has to explore."""


def coat_steps(read: Callable[[str], str]) -> Steps:
    """`Steps` of this format; `read` is that of the task.

    A chain ends where the policy ends its turn, never by a step alone: a path that has come to the end with
    the wrong number may still be reflected on.
    """
    return Steps(
        max_tokens=_MAX_TOKENS, max_steps=_MAX_STEPS, read=read, check=check_action, answer=path_answer
    )


def write_reflection(kept: int) -> str:
    """The line that takes the path back to its first `kept` steps."""
    return f"{REFLECT}back to {kept}"


def check_action(question: str, state: str | None, step: str) -> Checked:
    """Check one tagged line. `state` is the states along the present path, as in `4 4 10;4 6`.

    It ends in `?` after a reflection. Refused are a line without a tag, a reflection on nothing or beyond the
    path, an exploration anywhere but after a reflection and anything else there, and what `check_step`
    refuses.
    """
    action, (path, due) = split_tag(step), _read(state)
    tag, said = action.tag, action.text
    if tag is None:
        return Checked(reason=f"does not open with one of {', '.join(TAGS)}")
    if tag == EXPLORE and not due:
        return Checked(reason="explores without a reflection before it")
    if tag != EXPLORE and due:
        return Checked(reason="does not explore after a reflection")
    if tag == REFLECT:
        return _back(path, said)
    if path and " " not in path[-1]:
        return Checked(reason="one number is left, no step can follow")
    checked = check_step(question, path[-1] if path else None, said)
    return checked if checked.state is None else Checked(state=";".join((*path, checked.state)))


def path_answer(question: str, steps: Sequence[str]) -> str | None:
    """The expression that the present path spells out; None where it is not finished."""
    return answer(question, present_path(steps))


def present_path(steps: Sequence[str]) -> list[str]:
    """The steps, without their tags, that no reflection has taken back."""
    path: list[str] = []
    for step in steps:
        action = split_tag(step)
        if action.tag != REFLECT:
            path.append(action.text)
        elif (match := _BACK.fullmatch(action.text)) is not None:
            del path[int(match[1]) :]
    return path


def _back(path: Sequence[str], said: str) -> Checked:
    match = _BACK.fullmatch(said)
    if match is None:
        return Checked(reason="not a reflection of the form 'back to J'")
    if (kept := int(match[1])) >= len(path):
        return Checked(reason=f"goes back to step {kept} of a path of {len(path)}")
    return Checked(state=";".join(path[:kept]) + _DUE)


def _read(state: str | None) -> tuple[list[str], bool]:
    """The states along the path, and whether an exploration is due."""
    if state is None:
        return [], False
    path = state.removesuffix(_DUE)
    return path.split(";") if path else [], state.endswith(_DUE)
