"""Labels: states pooled by hand, hidden states where a head will read, folders that can be gone on with."""

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from rlm_agent import Completion, GGUFPolicy
from rlm_agent.models.protocols import Candidate
from rlm_agent.models.resolve import load_policy
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.tasks.registry import get_task
from rlm_agent.training import labels as kept
from rlm_agent.training.labels import Labelling, collect
from rlm_agent.training.rollouts import Labelled, Labels, beginnings, label

TASK = get_task("countdown")
QUESTION = "4 9 10 13 : 24"


def chain(*steps: str) -> Completion:
    return Completion("\n".join(steps), tokens=1, logprob=0.0, finish="end")


@pytest.fixture(scope="module")
def policy() -> GGUFPolicy:
    policy = load_policy("mini")
    assert isinstance(policy, GGUFPolicy)
    return policy


def test_beginnings_are_pooled_by_state_and_count_what_came_of_them() -> None:
    """13 - 9 and then 10 - 4, or the other way round: two ways to the state of 4 and 6."""
    first, second = "13 - 9 = 4 | 4 4 10", "10 - 4 = 6 | 6 9 13"
    right = chain(first, "10 - 4 = 6 | 4 6", "4 * 6 = 24")
    wrong = chain(second, "13 - 9 = 4 | 4 6", "4 + 6 = 10")
    illegal = chain(first, "10 - 5 = 5 | 4 5")
    cut = chain(second)
    found = list(beginnings(TASK, QUESTION, [right, wrong, illegal, cut]))
    assert found == [
        Labelled(QUESTION, (), right=1, runs=4),
        Labelled(QUESTION, (first,), right=1, runs=2),
        Labelled(QUESTION, (first, "10 - 4 = 6 | 4 6"), right=1, runs=2),
        Labelled(QUESTION, (second,), right=0, runs=2),
    ]


def test_labels_are_read_where_the_head_will_read(policy: GGUFPolicy) -> None:
    questions = TASK.problems("train", 3, 5)
    made = label(policy, TASK, questions, samples=4, seed=1)
    again = label(policy, TASK, questions, samples=4, seed=1)
    for name in ("hidden", "right", "runs", "depths", "questions"):
        assert np.array_equal(getattr(made, name), getattr(again, name)), name
    assert made.runs[made.depths == 0].tolist() == [4, 4, 4]
    assert (made.right <= made.runs).all()
    messages = (Candidate(({"role": "user", "content": questions[0]},), (), final=False)).messages
    from rlm_agent.models.gguf.engine.jobs import Job

    looked = policy.engine.complete([Job(policy.prompt(messages, ""), 0, hidden=True)])[0].hidden
    assert looked is not None
    assert np.array_equal(looked, made.hidden[0])


def test_labels_of_batches_keep_their_questions_apart() -> None:
    def part(*questions: int) -> Labels:
        ones = np.ones(len(questions), dtype=np.int32)
        return Labels(
            np.ones((len(questions), 2), np.float32), ones, ones, ones, np.array(questions, np.int32)
        )

    together = Labels.together([part(0, 0, 1), part(0, 1, 2), part(0)])
    assert together.questions.tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert len(together.where(together.questions < 2).runs) == 3


def test_collecting_goes_on_where_it_was_stopped(
    policy: GGUFPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_BATCH", 2)
    labelling = Labelling(("countdown", "game24"), questions=3, samples=2, seed=0)
    whole = collect(tmp_path / "whole", policy, labelling)

    class StopError(Exception):
        pass

    def stop(done: int) -> None:
        if done == 2:
            raise StopError

    with pytest.raises(StopError):
        collect(tmp_path / "broken", policy, labelling, stop)
    made = Mock(side_effect=label)
    monkeypatch.setattr(kept, "label", made)
    resumed = collect(tmp_path / "broken", policy, labelling)
    assert made.call_count == 3  # the first of four batches was there
    assert np.array_equal(whole.hidden, resumed.hidden)
    assert np.array_equal(whole.questions, resumed.questions)
    left = collect(tmp_path / "less", policy, labelling, excluded=TASK.problems("train", 1, 0))
    assert len(set(left.questions.tolist())) == 5
    with pytest.raises(CheckpointError, match="another folder"):
        collect(tmp_path / "broken", policy, Labelling(("countdown",), 3, 2, seed=1))
