"""What stands after a branch that was forked off others equals what a fresh prefill of it says."""

import random
from pathlib import Path

import numpy as np
import pytest

from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job, Tokens

NEAR = 1e-2


def tree(seed: int, nodes: int = 60) -> list[Tokens]:
    """The paths of a tree that grows from two roots at random nodes, by 1 to 20 random tokens."""
    draw = random.Random(seed)
    paths: list[Tokens] = [tuple(draw.choices(range(5, 320), k=40)) for _ in range(2)]
    while len(paths) < nodes:
        path = (*draw.choice(paths), *draw.choices(range(5, 320), k=draw.randint(1, 20)))
        paths += [path] if len(path) < 250 else []
    return paths


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("context", [300, 4096])
def test_logits_and_hidden_states_of_forks_are_those_of_a_fresh_prefill(
    tiny: Path, exact: bool, context: int
) -> None:
    """Branch by branch, then all in one batch, then again after evictions; to the bit where it is exact."""
    paths = tree(seed=context)
    looks = [Job(path, 0, hidden=True) for path in paths]
    engine = Engine(tiny, context=context, threads=1, exact=exact)
    fresh = []
    for look in looks:
        engine.forget()
        fresh += engine.complete([look])
    assert [result.cached for result in fresh] == [0] * len(fresh)
    engine.forget()
    grown = [engine.complete([look])[0] for look in looks]
    engine.forget()
    together = engine.complete(looks)
    again = engine.complete(looks[::-1])[::-1]
    assert sum(result.cached for result in grown) > sum(map(len, paths)) / 4
    for branches in (grown, together, again):
        for branch, alone in zip(branches, fresh, strict=True):
            assert branch.logits is not None and alone.logits is not None
            assert branch.hidden is not None and alone.hidden is not None
            assert np.abs(branch.logits - alone.logits).max() < NEAR
            assert np.abs(branch.hidden - alone.hidden).max() < NEAR
            if exact:
                assert (branch.logits == alone.logits).all()
                assert (branch.hidden == alone.hidden).all()
    engine.close()
