"""Filters over metadata, answered by the index of fields in the document store.

    {"year": 2020}                      equal
    {"year": [2020, 2021]}              one of these
    {"year": {"$gte": 2019, "$lt": 2022}}   within a range

Numbers are in order among numbers, and texts among texts, by code points. Several keys have to hold at once.
A field that is a list holds where one of its elements does. Texts, numbers and booleans can be asked for, and
they are never equal to each other; texts of more than 1,000 characters are kept but cannot be asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlm_agent.structure.errors import InputError

Filter = Mapping[str, Any]

Query = tuple[str, tuple[str, str | int | float]]
"""A statement for rows, of fixed text alone, and the key and value that are bound to it."""

_EQUAL = "SELECT row FROM fields WHERE key = ? AND value = ?"
_RANGES = {
    "$gt": "SELECT row FROM fields WHERE key = ? AND value > ?",
    "$gte": "SELECT row FROM fields WHERE key = ? AND value >= ?",
    "$lt": "SELECT row FROM fields WHERE key = ? AND value < ?",
    "$lte": "SELECT row FROM fields WHERE key = ? AND value <= ?",
}
_LARGEST = 2**63
_LONGEST = 1000


def field_rows(metadata: Mapping[str, Any]) -> set[tuple[str, str | int | float]]:
    """What the index of fields holds of a chunk's metadata: keys with the kind of value, and values."""
    return {
        (_kind(value) + key, int(value) if isinstance(value, bool) else value)
        for key, held in metadata.items()
        for value in (held if isinstance(held, list) else [held])
        if _kind(value)
    }


def conditions(wanted: Filter) -> list[list[Query]]:
    """Conditions that have to hold at once, each met by what any of its queries finds.

    Raises `InputError` for what is no filter.
    """
    return [condition for key, value in wanted.items() for condition in _of_key(key, value)]


def _of_key(key: str, value: Any) -> Iterator[list[Query]]:
    if isinstance(value, Mapping):
        if not value or set(value) - _RANGES.keys():
            raise InputError(f"the filter for {key!r} is no range; use {', '.join(_RANGES)}")
        for sign, bound in value.items():
            yield [(_RANGES[sign], _bound(key, bound))]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield [(_EQUAL, _bound(key, one)) for one in value]
    else:
        yield [(_EQUAL, _bound(key, value))]


def _bound(key: Any, value: Any) -> tuple[str, str | int | float]:
    kind = _kind(value)
    if not kind or not isinstance(key, str) or not _encodable(key, value):
        raise InputError(f"the filter for {key!r} asks for {value!r}; ask for a text, a number or a boolean")
    return kind + key, int(value) if isinstance(value, bool) else value


def _encodable(*values: Any) -> bool:
    """Whether texts hold no half of a surrogate pair, which no stored text does."""
    return not any(
        "\ud800" <= mark <= "\udfff" for value in values if isinstance(value, str) for mark in value
    )


def _kind(value: Any) -> str:
    """A letter for the kind of a value, or nothing where it cannot be asked for."""
    if isinstance(value, bool):
        return "b:"
    if isinstance(value, int) and -_LARGEST <= value < _LARGEST:
        return "n:"
    if isinstance(value, float) and value == value:
        return "n:"
    return "s:" if isinstance(value, str) and len(value) <= _LONGEST else ""
