"""Monte-Carlo labels for a value model: how often a policy's own rollouts through a state end well.

Source: soft estimation of Math-Shepherd (Wang et al., arXiv 2312.08935, §3.3). Deviation: whole chains are
sampled from the question, and those that pass through equal states are pooled, whichever way they came.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.protocols import Completion, Message, Request
from rlm_agent.structure.errors import DecodeError, InputError
from rlm_agent.structure.ids import derive_seed
from rlm_agent.structure.steps import Steps
from rlm_agent.tasks.task import Problem, Task


@dataclass(slots=True)
class Labelled:
    """The beginning of a chain, and how many of the `runs` that passed through its state were `right`."""

    question: str
    steps: tuple[str, ...]
    right: int = 0
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Labels:
    """Hidden states [n, width] at the ends of steps, right and all runs through each [n], and questions [n].

    `depths` [n] count the steps so far; `questions` are numbers, equal for beginnings of one question.
    """

    hidden: NDArray[np.float32]
    right: NDArray[np.int32]
    runs: NDArray[np.int32]
    depths: NDArray[np.int32]
    questions: NDArray[np.int32]

    @classmethod
    def together(cls, parts: Sequence["Labels"]) -> Self:
        """The labels of several batches of questions as those of one."""
        asked = np.cumsum([0, *(int(part.questions.max(initial=-1)) + 1 for part in parts)])
        moved = [
            replace(part, questions=part.questions + np.int32(first))
            for part, first in zip(parts, asked[:-1], strict=True)
        ]
        return cls(
            *(np.concatenate([getattr(part, column.name) for part in moved]) for column in fields(cls))
        )

    def where(self, chosen: NDArray[np.bool_]) -> Self:
        """Those labels that `chosen` [n] marks."""
        return type(self)(*(getattr(self, field.name)[chosen] for field in fields(self)))


def label(policy: GGUFPolicy, task: Task, questions: Sequence[str], *, samples: int, seed: int) -> Labels:
    """Sample whole chains, `samples` a question, and label the beginnings that they have.

    The policy draws as it recommends. Raises `InputError` for a task without a step checker, whose states
    could not be told apart.
    """
    if task.steps.check is None:
        raise InputError(f"the task {task.name!r} has no step checker; choose another task")
    requests = [
        _request(policy, task.steps, question, derive_seed(seed, f"{question}/{number}"))
        for question in questions
        for number in range(samples)
    ]
    completions = policy.generate(requests)
    pooled = [
        list(beginnings(task, question, completions[number * samples : (number + 1) * samples]))
        for number, question in enumerate(questions)
    ]
    known = [(one, number) for number, ones in enumerate(pooled) for one in ones]
    return Labels(
        hidden=_hidden(policy, task.steps, [one for one, _ in known]),
        right=np.array([one.right for one, _ in known], dtype=np.int32),
        runs=np.array([one.runs for one, _ in known], dtype=np.int32),
        depths=np.array([len(one.steps) for one, _ in known], dtype=np.int32),
        questions=np.array([number for _, number in known], dtype=np.int32),
    )


def beginnings(task: Task, question: str, chains: Sequence[Completion]) -> Iterator[Labelled]:
    """The unfinished beginnings of some chains of one question, the empty one first, pooled by state."""
    pooled: dict[tuple[int, str | None], Labelled] = {}
    for chain in chains:
        passed, right = _follow(task, question, chain)
        for state, steps in passed:
            one = pooled.setdefault((len(steps), state), Labelled(question, steps))
            one.runs += 1
            one.right += right
    yield from pooled.values()


def _follow(
    task: Task, question: str, chain: Completion
) -> tuple[list[tuple[str | None, tuple[str, ...]]], bool]:
    """The states that a chain passes before its end, each with the steps to it; and whether it is right."""
    check = task.steps.check
    assert check is not None
    steps: tuple[str, ...] = ()
    passed: list[tuple[str | None, tuple[str, ...]]] = [(None, steps)]
    for text in chain.text.split(task.steps.delimiter):
        checked = check(question, passed[-1][0], text)
        if checked.reason is not None:
            return passed, False
        steps = (*steps, text)
        if checked.final:
            answer = task.steps.answer(question, steps)
            return passed, bool(task.grade(Problem(question), answer))
        passed.append((checked.state, steps))
    return passed, False


def _request(policy: GGUFPolicy, steps: Steps, question: str, seed: int) -> Request:
    return Request(
        messages=_conversation(question),
        prefix="",
        max_tokens=steps.max_tokens * steps.max_steps,
        seed=seed,
        decoding=policy.decoding,
    )


def _conversation(question: str) -> tuple[Message, ...]:
    """A specialist reads the question alone."""
    return (Message(role="user", content=question),)


def _hidden(policy: GGUFPolicy, steps: Steps, ones: Sequence[Labelled]) -> NDArray[np.float32]:
    """Where a value head will read: at the delimiter behind the last step, or the end of the prompt."""
    jobs = [
        Job(
            policy.prompt(_conversation(one.question), "".join(s + steps.delimiter for s in one.steps)),
            max_tokens=0,
            hidden=True,
        )
        for one in ones
    ]
    results = policy.engine.complete(jobs)
    rows = [result.hidden for result in results if result.hidden is not None]
    if len(rows) < len(ones):
        raise DecodeError("the engine gave no hidden state for some beginnings; load the model again")
    return np.stack(rows)
