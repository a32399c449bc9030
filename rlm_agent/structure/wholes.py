"""Whole solutions as thoughts: the steps of a task, written in one go."""

from dataclasses import replace
from functools import partial

from rlm_agent.structure.errors import InputError
from rlm_agent.structure.formats import WHOLE
from rlm_agent.structure.steps import Checked, StepChecker, Steps


def in_one(steps: Steps) -> Steps:
    """The same steps, all of a solution's in one thought; whole solutions are left as they are.

    A solution may take as many tokens as all of its steps together. Where there is a step checker, it walks
    through the parts between the delimiters, and the first bad one refuses the solution. Raises `InputError`
    for a checker of steps that no delimiter ends.
    """
    unit = steps.granularity
    if unit.whole:
        return steps
    if steps.check is not None and not unit.delimiter:
        raise InputError(
            "a whole solution is checked step by step, and no delimiter says where these steps end; give "
            "Steps(format=WHOLE) with a checker of whole solutions"
        )
    check = partial(_check, steps.check, unit.delimiter) if steps.check is not None else None
    most = steps.longest * steps.max_steps
    return replace(steps, delimiter="\n", format=WHOLE, max_tokens=most, check=check)


def _check(check: StepChecker, delimiter: str, question: str, state: str | None, solution: str) -> Checked:
    checked = Checked(state=state)
    for number, step in enumerate(solution.strip().split(delimiter), 1):
        if checked.final:
            return Checked(reason=f"step {number}: the solution had ended before it")
        checked = check(question, checked.state, step)
        if checked.reason is not None:
            return Checked(reason=f"step {number}: {checked.reason}")
    return Checked(final=True)
