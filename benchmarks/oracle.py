"""Best-first search with an oracle in place of the value head: what a perfect value would bring, the ceiling.

The oracle is the exact solver: 1 for a chain from which the target can still be reached, else 0. It knows
what no model may know in a search, so that its figures are no results; they tell how much a better head could
gain.

python benchmarks/oracle.py TASK|FILE[:FIRST-LAST] [PROBLEMS [TOKENS [SPLIT]]]
"""

import sys
from collections.abc import Sequence
from fractions import Fraction
from statistics import fmean

import numpy as np

from rlm_agent import Budget, create_best_first
from rlm_agent.evaluation.runs import solve
from rlm_agent.models.values import FunctionValue
from rlm_agent.tasks.countdown.puzzle import parse
from rlm_agent.tasks.countdown.solver import reaches
from rlm_agent.tasks.registry import TASKS, get_task, read_problems
from rlm_agent.tasks.task import Problem


def reach(question: str, steps: Sequence[str]) -> float:
    """Whether the target of a question can be reached after some legal steps, of which none is the last."""
    puzzle = parse(question)
    left = steps[-1].partition("|")[2].split() if steps else map(str, puzzle.numbers)
    state = np.array([[float(Fraction(number)) for number in left]])
    return float(reaches(state, np.array([float(puzzle.target)]))[0])


def main(source: str, count: int, tokens: int, split: str) -> None:
    """Search each problem and print what was solved, at how many generated tokens a problem."""
    task = get_task(source if source in TASKS else "countdown")
    problems = task.problems(split, count, 0) if source in TASKS else read_problems(source)  # type: ignore[arg-type]
    reasoner = create_best_first(
        "mini",
        value=FunctionValue(reach, "solver"),
        steps=task.steps,
        verifier=task.verifier,
        budget=Budget(tokens=tokens),
        seed=0,
    )
    results = [solve(reasoner, task, Problem(problem)) for problem in problems]
    solved = fmean(bool(result.verified) for result in results)
    spent = fmean(result.completion_tokens for result in results)
    print(f"{source}: {solved:.1%} of {len(results)} solved, {spent:.0f} generated tokens a problem")


if __name__ == "__main__":
    given = [*sys.argv[1:], *("five", "300", "1000", "test")[len(sys.argv) - 1 :]]
    main(given[0], int(given[1]), int(given[2]), given[3])
