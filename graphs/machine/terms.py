"""The terms of one question, steps that are given and a budget of its own; what callers say is checked."""

from collections.abc import Mapping, Sequence

from rlm_agent.structure.budget import Budget
from rlm_agent.structure.errors import BudgetError, ProblemError
from rlm_agent.structure.steps import Steps
from rlm_agent.structure.thoughts import Thought


def plant(question: str, given: Sequence[str], steps: Steps) -> Thought:
    """The root of a search that begins behind the given steps.

    Raises `ProblemError` where the step checker refuses one of them, or where one ends the answer.
    """
    root = Thought(parent=None, index=0, depth=len(given), kind="root", text=question, tokens=0, logprob=0.0)
    if given:
        root["given"] = list(given)
    check = steps.check
    for step in given if check is not None else ():
        assert check is not None
        checked = check(question, root.get("state"), step)
        if checked.reason is not None or checked.final:
            fault = checked.reason or "it ends the answer"
            raise ProblemError(f"the given step {step!r} leaves nothing to search ({fault}); leave it out")
        if checked.state is not None:
            root["state"] = checked.state
    return root


def read_budget(bounds: Mapping[str, float | None]) -> Budget:
    """The budget of these keywords; `BudgetError` for one that a budget does not have."""
    try:
        return Budget(**bounds)  # type: ignore[arg-type]
    except TypeError as error:
        raise BudgetError(f"{dict(bounds)!r} is no budget; give tokens, calls, nodes and seconds") from error
