"""Ids and seeds depend on nothing but where they stand."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.structure.ids import child_id, derive_seed, root_id

_PRINT = (
    "from rlm_agent.structure.ids import *; "
    "print(root_id(1), child_id(root_id(1), 0), derive_seed(7, 'a', 1))"
)


def test_ids_and_seeds_are_the_same_in_another_process() -> None:
    command = [sys.executable, "-c", _PRINT]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert printed == [root_id(1), child_id(root_id(1), 0), str(derive_seed(7, "a", 1))]


def test_ids_are_twelve_hexadecimal_digits_and_differ() -> None:
    ids = [root_id(turn) for turn in range(1, 20)]
    ids += [child_id(parent, index) for parent in list(ids) for index in range(20)]
    assert len(set(ids)) == len(ids)
    assert all(len(id) == 12 and int(id, 16) >= 0 for id in ids)


@given(st.integers(), st.lists(st.integers() | st.text()))
def test_a_seed_has_63_bits_and_repeats(seed: int, counter: list[int | str]) -> None:
    drawn = derive_seed(seed, *counter)
    assert 0 <= drawn < 2**63
    assert drawn == derive_seed(seed, *counter)


def test_seeds_differ_by_run_and_by_counter() -> None:
    seeds = {derive_seed(seed, counter) for seed in range(50) for counter in ("a", "b", "c")}
    assert len(seeds) == 150
