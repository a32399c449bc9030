"""Whether a value that came from elsewhere is plain JSON of the shape that a type says."""

import math
from collections.abc import Callable
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

Check = Callable[[object], str | None]
"""What is wrong with a value, or None."""


@cache
def shape(kind: Any) -> Check:
    """The check for a type: a `TypedDict`, a list, a dict by strings, a union, a literal, or a plain type.

    An int passes for a float, a bool passes for neither, and numbers are finite. `Any` stands for any JSON.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if hasattr(kind, "__required_keys__"):  # also those of typing_extensions
        return _record(kind)
    if origin is NotRequired:
        return shape(inner[0])
    if origin in (Union, UnionType):
        return _one_of([shape(one) for one in inner])
    if origin is Literal:
        return lambda value: None if value in inner else f"{value!r} is none of {', '.join(map(str, inner))}"
    if origin is list:
        return _list(shape(inner[0]))
    if origin is dict:
        return _dict(shape(inner[1]))
    if kind is Any:
        return _json
    return _plain(kind)


def _plain(kind: type) -> Check:
    allowed = {float: (int, float), NoneType: (NoneType,)}.get(kind, (kind,))

    def check(value: object) -> str | None:
        if type(value) not in allowed or (type(value) is float and not math.isfinite(value)):
            return f"{value!r:.60} is no {kind.__name__}"
        return None

    return check


def _one_of(checks: list[Check]) -> Check:
    def check(value: object) -> str | None:
        faults = [one(value) for one in checks]
        return None if None in faults else faults[0]

    return check


def _list(item: Check) -> Check:
    def check(value: object) -> str | None:
        if type(value) is not list:
            return f"{value!r:.60} is no list"
        return next((fault for one in value if (fault := item(one)) is not None), None)

    return check


def _dict(item: Check) -> Check:
    def check(value: object) -> str | None:
        if type(value) is not dict:
            return f"{value!r:.60} is no dict"
        odd = next((key for key in value if type(key) is not str), None)
        if odd is not None:
            return f"the key {odd!r:.60} is no str"
        faults = ((key, item(one)) for key, one in value.items())
        return next((f"{key}: {fault}" for key, fault in faults if fault is not None), None)

    return check


def _record(kind: Any) -> Check:
    fields = {name: shape(hint) for name, hint in get_type_hints(kind).items()}
    required = kind.__required_keys__

    def check(value: object) -> str | None:
        if type(value) is not dict:
            return f"{value!r:.60} is no {kind.__name__}"
        if missing := required - value.keys():
            return f"{', '.join(sorted(missing))} is missing"
        for name, held in value.items():
            if name not in fields:
                return f"{name!r:.60} is no field of a {kind.__name__}"
            if (fault := fields[name](held)) is not None:
                return f"{name}: {fault}"
        return None

    return check


def _json(value: object) -> str | None:
    if isinstance(value, list):
        return _list(_json)(value)
    if isinstance(value, dict):
        return _dict(_json)(value)
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return None
    return f"{value!r:.60} is not JSON"
