"""Channels that are written in place: values that somebody holds never change, others are not copied."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from langgraph.channels import DeltaChannel
from langgraph.types import Overwrite

from rlm_agent.graphs.machine.growing import Growing, Merge
from rlm_agent.graphs.machine.state import merge

Write = dict[str, int]

writes = st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(), max_size=3), max_size=3)


@given(st.lists(st.tuples(writes, st.booleans()), max_size=12))
def test_a_value_is_what_copies_would_be_and_stays_so_for_whoever_holds_it(
    rounds: Sequence[tuple[Sequence[Write], bool]],
) -> None:
    reducer, value, copied, held = Merge(), dict[str, int](), dict[str, int](), []
    for written, is_held in rounds:
        value, copied = reducer(value, written), merge(copied, written)
        assert list(value.items()) == list(copied.items())
        if is_held:
            held.append((value, copied))
    for one, as_it_was in held:
        assert list(one.items()) == list(as_it_was.items())


def grown(reducer: Merge, value: Mapping[str, int], rounds: int) -> set[int]:
    """The identities of the values of so many rounds, of which nobody holds more than the last."""
    found = set()
    for number in range(rounds):
        value = reducer(value, [{str(number): number}])  # type: ignore[arg-type]
        found.add(id(value))
    return found


def test_nothing_is_copied_once_nobody_looks() -> None:
    assert len(grown(Merge(), {}, 50)) == 2


def test_a_branch_of_an_earlier_value_is_a_copy() -> None:
    """As where a state is gone on with that was not the last one."""
    reducer = Merge()
    first = reducer({}, [{"a": 1}])
    second = reducer(first, [{"b": 2}])
    branch = reducer(first, [{"c": 3}])
    assert (first, second, branch) == ({"a": 1}, {"a": 1, "b": 2}, {"a": 1, "c": 3})
    assert reducer(branch, [{"d": 4}]) == {"a": 1, "c": 3, "d": 4}
    assert (first, branch) == ({"a": 1}, {"a": 1, "c": 3})


def channel() -> Growing:
    made: Growing = Growing(merge, dict, snapshot_frequency=5).from_checkpoint(None)
    return made


def test_a_channel_reads_like_one_that_copies() -> None:
    """Writes, a reset by `Overwrite`, and a copy that goes its own way."""
    growing: list[Any] = [channel(), DeltaChannel(merge, dict, snapshot_frequency=5).from_checkpoint(None)]
    seen: list[list[Any]] = [[], []]
    for one, told in zip(growing, seen, strict=True):
        for write in ({"a": 1}, {"b": 2}, Overwrite({"x": 0}), {"y": 1}, {"x": 2}):
            one.update([write])
            told.append(dict(one.get()))
        other = one.copy()
        other.update([{"z": 3}])
        one.update([{"y": 4}])
        told += [one.get(), other.get()]
    assert seen[0] == seen[1]
    assert seen[0][-2:] == [{"x": 2, "y": 4}, {"x": 2, "y": 1, "z": 3}]


def test_channels_of_one_name_in_two_schemas_are_the_same() -> None:
    """LangGraph refuses a schema that redefines a channel of another."""
    assert channel() == channel()
    assert channel() != Growing(merge, dict, snapshot_frequency=6)
