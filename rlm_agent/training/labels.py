"""Labels kept in a folder, a file for each batch of questions, so that labelling can be gone on with."""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.tasks.countdown.puzzle import Split
from rlm_agent.tasks.registry import get_task
from rlm_agent.tasks.task import Task
from rlm_agent.training.rollouts import Labels, label

_BATCH = 50


@dataclass(frozen=True, slots=True)
class Labelling:
    """What decides the labels: up to how many questions of each task, chains a question, and the seed."""

    tasks: tuple[str, ...]
    questions: int
    samples: int
    seed: int
    split: Split = "train"


def collect(
    folder: Path,
    policy: GGUFPolicy,
    labelling: Labelling,
    report: Callable[[int], None] = lambda questions: None,
    *,
    excluded: Collection[str] = (),
) -> Labels:
    """Label questions of a split but those `excluded`; batches that the folder holds are read.

    `report` is told how many questions are done. Raises `CheckpointError` where the folder holds labels of
    other settings or of another model.
    """
    left_out = hashlib.sha256("\n".join(sorted(excluded)).encode()).hexdigest()[:16]
    _require_same(folder, {**asdict(labelling), "model": policy.identity, "excluded": left_out})
    parts, done = [], 0
    for task in map(get_task, labelling.tasks):
        drawn = task.problems(labelling.split, labelling.questions, labelling.seed)
        questions = [question for question in drawn if question not in excluded]
        for first in range(0, len(questions), _BATCH):
            batch = questions[first : first + _BATCH]
            parts.append(_part(folder / f"{task.name}-{first:06}.npz", policy, task, batch, labelling))
            report(done := done + len(batch))
    return Labels.together(parts)


def _part(
    path: Path, policy: GGUFPolicy, task: Task, questions: Sequence[str], labelling: Labelling
) -> Labels:
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return Labels(**stored)
    labels = label(policy, task, questions, samples=labelling.samples, seed=labelling.seed)
    policy.engine.forget()
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **asdict(labels))
    partial.replace(path)
    return labels


def _require_same(folder: Path, settings: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path, written = folder / "labels.json", json.dumps(settings, indent=2) + "\n"
    if not path.exists():
        path.write_text(written, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != written:
        raise CheckpointError(f"{folder} holds labels made in another way; name another folder")
