"""Budgets: what is a bound, and that no allowance is ever overdrawn."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.structure.budget import Allowance, Budget, Usage, add_usage, no_usage
from rlm_agent.structure.errors import BudgetError, InputError

amounts = st.just(math.inf) | st.integers(-3, 300).map(float)
allowances = st.builds(Allowance, amounts, amounts, amounts, amounts)
usages = st.builds(
    Usage,
    prompt_tokens=st.integers(0, 999),
    cached_tokens=st.integers(0, 999),
    completion_tokens=st.integers(0, 999),
    model_calls=st.integers(0, 999),
    nodes=st.integers(0, 999),
    seconds=st.integers(0, 999).map(float),
)


@pytest.mark.parametrize("bound", ["tokens", "calls", "nodes", "seconds"])
@pytest.mark.parametrize("amount", [0, -1, math.nan, -math.inf, True, False, "5", 0.0])
def test_a_bound_that_is_no_number_above_zero_is_refused(bound: str, amount: Any) -> None:
    with pytest.raises(BudgetError, match=f"{bound}.*give a number above 0"):
        Budget(**{bound: amount})


@pytest.mark.parametrize("bound", ["tokens", "calls", "nodes"])
@pytest.mark.parametrize("amount", [1.5, 4000.0, math.inf])
def test_what_is_counted_is_bounded_by_integers(bound: str, amount: Any) -> None:
    with pytest.raises(BudgetError, match="is not whole"):
        Budget(**{bound: amount})


def test_seconds_may_be_a_fraction_and_an_error_is_an_input_error() -> None:
    assert Budget(seconds=0.5).left(no_usage()).seconds == 0.5
    assert issubclass(BudgetError, InputError)


def test_no_bound_leaves_everything() -> None:
    assert Budget().left(no_usage()) == Allowance(math.inf, math.inf, math.inf, math.inf)


@given(usages)
def test_what_is_left_is_the_budget_less_the_usage(usage: Usage) -> None:
    left = Budget(tokens=100, calls=200, nodes=300, seconds=400).left(usage)
    assert left.tokens == 100 - usage["completion_tokens"]
    assert left.calls == 200 - usage["model_calls"]
    assert left.nodes == 300 - usage["nodes"]
    assert left.seconds == 400 - usage["seconds"]


@pytest.mark.parametrize("bound", ["tokens", "calls", "nodes", "seconds"])
def test_a_spent_bound_is_named(bound: str) -> None:
    plenty = Allowance(5, 5, 5, 5)
    assert plenty.spent is None
    assert replace(plenty, **{bound: 0}).spent == bound


@given(usages, usages)
def test_usage_adds_up_field_by_field(first: Usage, second: Usage) -> None:
    total: dict[str, Any] = {**add_usage(first, second)}
    for field, amount in total.items():
        assert amount == {**first}[field] + {**second}[field]  # type: ignore[operator]
    assert add_usage(first, no_usage()) == first


@given(allowances, st.integers(0, 50), st.integers(1, 200))
def test_samples_never_exceed_the_allowance(allowance: Allowance, wanted: int, max_tokens: int) -> None:
    count, tokens = allowance.samples(wanted, max_tokens)
    assert 0 <= count <= wanted and 0 <= tokens <= max_tokens
    if count:
        assert allowance.spent is None
        assert count <= allowance.calls and count <= allowance.nodes
        assert count * tokens <= allowance.tokens


@given(allowances, st.integers(1, 50), st.integers(1, 200))
def test_what_is_left_is_used(allowance: Allowance, wanted: int, max_tokens: int) -> None:
    count, tokens = allowance.samples(wanted, max_tokens)
    if allowance.spent is not None:
        assert (count, tokens) == (0, 0)
        return
    assert count >= 1 and tokens >= 1
    assert tokens == max_tokens or count == 1, "samples are dropped before they are shortened"
    one_more = count < min(wanted, allowance.calls, allowance.nodes)
    assert not (one_more and (count + 1) * max_tokens <= allowance.tokens)


def test_each_bound_of_an_allowance_is_divided_by_what_is_wanted_of_it() -> None:
    """11 tokens by 1 : 2 are 3 and 8, since the first third ends at 3.67; 6 calls by 2 : 1 are 4 and 2."""
    wanted = [Allowance(1, 2, 0), Allowance(0, 0, 0), Allowance(2, 1, 0)]
    first, none, second = Allowance(tokens=11, calls=6, nodes=5, seconds=9.0).divided(wanted)
    assert first == Allowance(tokens=3, calls=4, nodes=0, seconds=9.0)
    assert none == Allowance(tokens=0, calls=0, nodes=0, seconds=9.0)
    assert second == Allowance(tokens=8, calls=2, nodes=0, seconds=9.0)


def test_nobody_has_a_bound_where_the_whole_has_none() -> None:
    assert Allowance().divided([Allowance(1, 1, 1), Allowance(3, 0, 1)]) == [
        Allowance(), Allowance(calls=0)
    ]  # fmt: skip


@given(st.integers(0, 300), st.lists(st.integers(0, 20), min_size=1).filter(sum))
def test_the_parts_of_an_allowance_add_up_to_it(amount: int, weights: list[int]) -> None:
    wanted = [Allowance(weight, weight, weight) for weight in weights]
    parts = Allowance(tokens=amount, calls=amount, nodes=amount).divided(wanted)
    for bound in ("tokens", "calls", "nodes"):
        assert sum(getattr(part, bound) for part in parts) == amount
        assert all(getattr(part, bound) >= 0 for part in parts)


def test_an_allowance_offers_what_it_has_of_all_that_is_wanted() -> None:
    assert Allowance(tokens=0).offers(Allowance(tokens=0, calls=3))
    assert not Allowance(tokens=0).offers(Allowance(tokens=1))
    assert not Allowance(seconds=0).offers(Allowance(0, 0, 0))
