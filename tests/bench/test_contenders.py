"""Every contender writes the whole tree, on a model that is next to nothing."""

import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from rlm_agent.bench.contenders.bare import MOST_EXPANSIONS, BareContender
from rlm_agent.bench.contenders.base import Contender, Setting
from rlm_agent.bench.contenders.engine import BusyContender, EngineContender, TogetherContender
from rlm_agent.bench.contenders.generate import GenerateContender
from rlm_agent.bench.contenders.server import ServerContender
from rlm_agent.bench.contenders.value import ValueContender, random_head
from rlm_agent.bench.workload import CHILDREN, LENGTH, Branch, Tokens, Tree, grow, make_tree
from rlm_agent.models.gguf.engine.jobs import Job, Result
from rlm_agent.models.gguf.values.readings import HeadReading
from rlm_agent.structure.errors import InputError, MissingExtraError

TREES = [make_tree(range(3, 300), prompt=8, branches=8, expansions=2, seed=seed) for seed in range(2)]

MAKERS: dict[str, Callable[[Setting], Contender]] = {
    "engine": EngineContender,
    "engine, not exact": lambda setting: EngineContender(setting, exact=False),
    "together": TogetherContender,
    "busy": BusyContender,
    "value": ValueContender,
    "generate": GenerateContender,
    "server": lambda setting: ServerContender(setting, 4, "server"),
    "bare": BareContender,
    "bare, not exact": lambda setting: BareContender(setting, exact=False),
}


def setting(path: Path, trees: list[Tree]) -> Setting:
    return Setting(path, 1, sum(tree.cells for tree in trees), max(tree.longest for tree in trees))


@pytest.mark.parametrize("name", MAKERS)
def test_contender_writes_whole_trees_twice(name: str, random_model: Path) -> None:
    if name == "server" and find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    contender = MAKERS[name](setting(random_model, TREES))
    contender.open()
    try:
        for _ in range(2):
            contender.forget()
            written = contender.play(TREES)
            assert [len(texts) for texts in written] == [2 * CHILDREN] * 2
            for text in (text for texts in written for text in texts):
                assert len(text) == LENGTH
                assert all(0 <= token < 320 for token in text)
    finally:
        contender.close()
    assert contender.about


@pytest.mark.parametrize("name", ["engine", "generate"])
def test_same_seeds_bring_the_same_tree(name: str, random_model: Path) -> None:
    contender = MAKERS[name](setting(random_model, TREES))
    contender.open()
    first = contender.play(TREES)
    contender.forget()
    second = contender.play(TREES)
    contender.close()
    assert first == second
    assert first[0] != first[1]


def test_every_step_is_valued_where_it_ends_and_the_tree_stays_the_same(
    random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    read = HeadReading.__call__

    def heard(self: HeadReading, results: Sequence[Result]) -> list[float]:
        told.extend(values := read(self, results))
        return values

    monkeypatch.setattr(HeadReading, "__call__", heard)
    on, off = (kind(setting(random_model, TREES)) for kind in (ValueContender, EngineContender))
    on.open()
    off.open()
    (written,) = on.play(TREES[:1])
    assert off.play(TREES[:1]) == [written]
    off.forget()
    texts, chains = iter(written), list[Tokens]()

    def again(branches: Sequence[Branch]) -> list[Tokens]:
        found = [next(texts) for _ in branches]
        chains.extend(branch.prompt + text for branch, text in zip(branches, found, strict=True))
        return found

    grow(TREES[0], again)
    head = random_head(off._engine.file)
    looks = [off._engine.complete([Job(chain, 0, hidden=True)])[0].hidden for chain in chains]
    assert told == [float(head.apply(look[None])[0]) for look in looks if look is not None]
    assert len(set(told)) == len(chains)
    on.close()
    off.close()


def test_server_that_is_not_installed_names_its_extra(
    random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=r"rlm-agent\[bench\]"):
        ServerContender(setting(random_model, TREES), 4, "server").open()


def test_bare_decoding_holds_the_largest_tree_and_refuses_a_larger_one(random_model: Path) -> None:
    largest, larger = (
        make_tree(range(3, 300), prompt=8, branches=16, expansions=count)
        for count in (MOST_EXPANSIONS, MOST_EXPANSIONS + 1)
    )
    contender = BareContender(setting(random_model, [larger]))
    contender.open()
    assert len(contender.play([largest])[0]) == MOST_EXPANSIONS * CHILDREN
    with pytest.raises(InputError, match="too many"):
        contender.play([larger])
    contender.close()
