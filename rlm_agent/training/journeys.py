"""From stored trees to training data: journeys to imitate, and steps to prefer over others.

Sources: Journey Learning (Qin et al., arXiv 2410.18982), fine-tuned on long chains of thought that a tree was
turned into, then by DPO; x1 (Besta et al., arXiv 2501.11223), which drops the paths of a tree that reach no
terminal, since nobody knows what they are worth.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlm_agent.operators.prune import twin
from rlm_agent.operators.restructure import PLAIN, RESTRUCTURE, Wording, in_words, linearise
from rlm_agent.operators.select import best, own_value
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.structure.thoughts import ThoughtGraph


@dataclass(frozen=True, slots=True)
class Journey:
    """An example to imitate: a question, and the long chain of thought that answers it, step by step."""

    question: str
    chain: list[str]


@dataclass(frozen=True, slots=True)
class Pair:
    """For DPO: after the steps `prefix`, `chosen` leads to a right answer and `rejected` to wrong ones."""

    question: str
    prefix: list[str]
    chosen: str
    rejected: str


def stored_tree(values: Mapping[str, Any]) -> ThoughtGraph:
    """The tree of the last question in a stored state's values; `CheckpointError` where they hold none."""
    try:
        return ThoughtGraph(values["run"]["root"], values["thoughts"], values["stats"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"the state holds no tree ({error!r} is missing); give the values of a search's state"
        ) from error


def journeys(
    tree: ThoughtGraph, *, wrong: int = 1, right: float = 1.0, wording: Wording = PLAIN
) -> list[Journey]:
    """One journey for each right answer of a tree, with up to `wrong` wrong branches at each step.

    Right are finished chains of at least the value `right`; where a verifier has judged, that is 1.0. Of
    chains of equal texts the first counts. Wrong branches that come to no answer are left out.
    """
    ends = _right_ends(tree, right)
    chains = {tuple(tree.steps(end)): end for end in reversed(ends)}
    walks = [linearise(tree, end, ends, wrong, ended=True) for end in ends if end in chains.values()]
    return [Journey(tree.question, in_words(tree, visits, wording)) for visits in walks]


def pairs(tree: ThoughtGraph, *, right: float = 1.0) -> list[Pair]:
    """A pair for each thought and each of its children that leads to answers, but to no right one.

    The chosen one is the child of the highest value among those that lead to a right answer, the first of
    several. Children that say the same count once; those that come to no answer, or failed, are left out.
    """
    live = {id for end in _right_ends(tree, right) for id in tree.chain(end)}
    ended = {id for end in _ends(tree) for id in tree.chain(end)}
    found = []
    for id in tree.walk():
        children = [child for child in tree.children(id) if tree.base(child) == id and child in ended]
        chosen = best(tree, [child for child in children if child in live], own_value)
        if chosen is not None:
            rejected = _apart(tree, [child for child in children if child not in live], live)
            found += [_pair(tree, id, chosen, child) for child in rejected]
    return found


def write_examples(path: Path, examples: Iterable[Journey | Pair]) -> int:
    """Write each example as a line of JSON; how many there were."""
    lines = [json.dumps(asdict(example), ensure_ascii=False) for example in examples]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


def _ends(tree: ThoughtGraph) -> list[str]:
    """The finished chains, those aside that only tell another one again."""
    return [id for id in tree.finals() if tree.thoughts[id].get("operator") != RESTRUCTURE]


def _right_ends(tree: ThoughtGraph, right: float) -> list[str]:
    return [id for id in _ends(tree) if own_value(tree, id) >= right]


def _apart(tree: ThoughtGraph, ids: Sequence[str], live: Iterable[str]) -> list[str]:
    """Those of `ids`, each text once, that do not say what a thought says that leads to a right answer."""
    said = {twin(tree, id) for id in live}
    first = {twin(tree, id): id for id in reversed(ids)}
    return [id for id in ids if id in first.values() and twin(tree, id) not in said]


def _pair(tree: ThoughtGraph, above: str, chosen: str, rejected: str) -> Pair:
    texts = (tree.thoughts[id]["text"] for id in (chosen, rejected))
    return Pair(tree.question, tree.steps(above), *texts)
