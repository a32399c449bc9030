"""An inconsistent graph of thoughts is refused, for the very thing that is wrong with it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from rlm_agent.structure.consistency import check_graph
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.structure.ids import child_id, root_id

ROOT = root_id(1)
LEFT, RIGHT = child_id(ROOT, 0), child_id(ROOT, 1)
DEEP = child_id(LEFT, 0)
RUN: dict[str, Any] = {"root": ROOT, "plan": [[LEFT, 1]], "fresh": [DEEP], "best": None}

Tree = dict[str, dict[str, Any]]


def tree() -> tuple[Tree, Tree]:
    """A root with two children, the first of which has one."""
    places: list[tuple[str, str | None, int, int]] = [
        (ROOT, None, 0, 0),
        (LEFT, ROOT, 0, 1),
        (RIGHT, ROOT, 1, 1),
        (DEEP, LEFT, 0, 2),
    ]
    thoughts = {
        id: {
            "parent": parent,
            "index": index,
            "depth": depth,
            "kind": "root" if parent is None else "step",
            "text": id,
            "tokens": 1,
            "logprob": -1,
        }
        for id, parent, index, depth in places
    }
    children = {ROOT: 2, LEFT: 1}
    stats = {
        id: {"visits": 0, "q": 0.0, "value": 0.5, "children": children.get(id, 0), "closed": False}
        for id in thoughts
    }
    return thoughts, stats


FAULTS: dict[str, tuple[Callable[[Tree, Tree], object], str]] = {
    "parent missing": (lambda t, s: (t.pop(LEFT), s.pop(LEFT)), f"the parent {LEFT} of {DEEP} is missing"),
    "thought alone": (lambda t, s: s.pop(RIGHT), f"{RIGHT} has no statistics"),
    "statistics alone": (lambda t, s: t.pop(RIGHT), f"{RIGHT} has statistics and is no thought"),
    "a circle": (lambda t, s: t[LEFT].update(parents=[DEEP]), "were made of each other"),
    "its own parent": (lambda t, s: t[DEEP].update(parent=DEEP), f"{DEEP} is child 0 of {DEEP}"),
    "not JSON": (lambda t, s: t[DEEP].update(text=b"bytes"), "text: b'bytes' is no str"),
    "nan": (lambda t, s: s[DEEP].update(q=float("nan")), "q: nan is no float"),
    "a bool for a number": (lambda t, s: t[DEEP].update(index=False), "index: False is no int"),
    "a field that is none": (lambda t, s: t[DEEP].update(anwser="4"), "'anwser' is no field of a Thought"),
    "a field that is missing": (lambda t, s: t[DEEP].pop("kind"), "kind is missing"),
    "an unknown kind": (lambda t, s: t[DEEP].update(kind="leaf"), "'leaf' is none of root, step"),
    "no record": (lambda t, s: t.update({DEEP: None}), "None is no Thought"),  # type: ignore[dict-item]
    "a number as id": (lambda t, s: t.update({7: t[DEEP]}), "the id 7 is no str"),  # type: ignore[dict-item]
    "another id": (
        lambda t, s: (t.update(other=t.pop(DEEP)), s.update(other=s.pop(DEEP))),
        f"other is not the id of child 0 of {LEFT}",
    ),
    "uncounted": (lambda t, s: s[LEFT].update(children=0), f"{DEEP} is child 0 of {LEFT}, which counts 0"),
    "too many counted": (lambda t, s: s[LEFT].update(children=3), f"{LEFT} counts 3 children and has 1"),
    "a second root": (lambda t, s: t[DEEP].update(kind="root"), f"{DEEP} has the kind 'root' and the parent"),
    "value": (lambda t, s: s[DEEP].update(value=1.5), f"{DEEP} has a value of 1.5"),
    "return": (lambda t, s: s[DEEP].update(q=-2), f"{DEEP} has a q of -2"),
    "visits": (lambda t, s: s[DEEP].update(visits=-1), f"{DEEP} has a count below 0"),
    "a base that is missing": (lambda t, s: t[DEEP].update(base="gone"), f"{DEEP} names gone"),
    "kept ones missing": (lambda t, s: s[DEEP].update(kept=["gone"]), f"{DEEP} names gone"),
    "planned ones missing": (
        lambda t, s: (t.pop(DEEP), s.pop(DEEP), s[LEFT].update(children=0)),
        f"the search points to {DEEP}",
    ),
}


def test_a_consistent_tree_passes() -> None:
    check_graph(*tree(), RUN)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(fault: str) -> None:
    damage, said = FAULTS[fault]
    thoughts, stats = tree()
    damage(thoughts, stats)
    before = copy.deepcopy((thoughts, stats))
    with pytest.raises(CheckpointError) as raised:
        check_graph(thoughts, stats, RUN)
    assert said in str(raised.value) and "go on from a checkpoint" in str(raised.value)
    assert repr((thoughts, stats)) == repr(before)


@pytest.mark.parametrize("plan", [[["x"]], [[LEFT, "1"]], [[LEFT, 1, 2]]])
def test_a_plan_that_is_none_is_refused(plan: list[Any]) -> None:
    with pytest.raises(CheckpointError, match="which is no thought and number"):
        check_graph(*tree(), {**RUN, "plan": plan})


def test_a_run_without_its_root_is_refused() -> None:
    with pytest.raises(CheckpointError, match="the root gone of the search is missing"):
        check_graph(*tree(), {**RUN, "root": "gone"})


def test_a_deep_tree_is_no_matter() -> None:
    thoughts, stats = tree()
    id = DEEP
    for _ in range(5000):
        child = child_id(id, 0)
        thoughts[child] = {**thoughts[DEEP], "parent": id}
        stats[id], stats[child] = {**stats[id], "children": 1}, {**stats[DEEP], "children": 0}
        id = child
    check_graph(thoughts, stats, RUN)
