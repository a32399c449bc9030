"""The tree that everybody writes."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.bench.workload import CHILDREN, LENGTH, Branch, Tokens, Tree, grow, make_tree
from rlm_agent.structure.errors import InputError

trees = st.builds(
    lambda prompt, width, expansions, seed: make_tree(
        range(3, 50), prompt=prompt, branches=CHILDREN * width, expansions=expansions, seed=seed
    ),
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(0, 2**31),
)


def write(tree: Tree) -> tuple[list[Tokens], list[list[Branch]]]:
    """A tree whose texts tell apart who wrote them, and what was asked wave by wave."""
    asked: list[list[Branch]] = []

    def complete(branches: Sequence[Branch]) -> list[Tokens]:
        asked.append(list(branches))
        return [(branch.seed, *[0] * (LENGTH - 1)) for branch in branches]

    return grow(tree, complete), asked


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_tree_is_decided_by_its_seed(expansions: int, seed: int) -> None:
    first, second = (
        make_tree(range(9), prompt=5, branches=8, expansions=expansions, seed=seed) for _ in range(2)
    )
    assert first == second
    assert write(first) == write(second)


@given(trees)
def test_tree_has_as_many_nodes_and_tokens_as_it_says(tree: Tree) -> None:
    texts, _ = write(tree)
    assert len(texts) == tree.expansions * CHILDREN
    assert sum(map(len, texts)) == tree.tokens
    assert tree.cells == len(tree.prompt) + tree.tokens


@given(trees)
def test_only_leaves_grow_and_each_once(tree: Tree) -> None:
    grown = [node for wave in tree.waves for node in wave]
    assert len(set(grown)) == len(grown)
    nodes = 1
    for wave in tree.waves:
        assert all(node < nodes for node in wave)
        nodes += CHILDREN * len(wave)


@given(trees)
def test_children_go_on_from_what_their_parent_wrote(tree: Tree) -> None:
    texts, asked = write(tree)
    paths = [tree.prompt]
    branches = (branch for wave in asked for branch in wave)
    for wave in tree.waves:
        children = [next(branches) for _ in range(CHILDREN * len(wave))]
        assert [child.prompt for child in children] == [paths[n] for n in wave for _ in range(CHILDREN)]
        paths += [child.prompt + texts[len(paths) - 1 + i] for i, child in enumerate(children)]
    assert max(map(len, paths)) == tree.longest


@given(trees)
def test_every_branch_has_a_seed_of_its_own(tree: Tree) -> None:
    _, asked = write(tree)
    seeds = [branch.seed for wave in asked for branch in wave]
    assert len(set(seeds)) == len(seeds)


def test_as_many_branches_grow_at_once_as_there_are_leaves_for() -> None:
    tree = make_tree(range(9), prompt=2, branches=16, expansions=64)
    assert tree.widths == (4, *[16] * 15, 12)


@pytest.mark.parametrize("branches", [0, 2, 6])
def test_branches_that_are_no_multiple_of_four_are_refused(branches: int) -> None:
    with pytest.raises(InputError, match="give 4, 8, 12"):
        make_tree(range(9), prompt=2, branches=branches, expansions=1)
