"""Conversion of units, by pint's registry, on text that nobody trusts.

Pint reads expressions with a small evaluator of its own. It is shown nothing to evaluate: numbers are read by
the calculator, and units are names with powers of one digit between `*` and `/`, or they are refused.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from rlm_agent.structure.errors import MissingExtraError
from rlm_agent.tools.calculator import exactly, written
from rlm_agent.tools.calling import Threaded
from rlm_agent.tools.protocols import takes_text

_NAME = r"[A-Za-z°µμΩÅ%][A-Za-z0-9_°µμΩÅ]{0,39}"
_FACTOR = rf"{_NAME}(?:(?:\^|\*\*)-?[1-9])?"
_UNIT = re.compile(rf"{_FACTOR}(?:(?:\s*[*/]\s*|\s+per\s+|\s+){_FACTOR}){{0,5}}")
_ASKED = re.compile(rf"(.*?[0-9)])\s*({_UNIT.pattern})\s+(?:to|in|into|as)\s+({_UNIT.pattern})", re.DOTALL)
_LONGEST = 200
_OTHER_SIGNS = str.maketrans({"·": "*", "→": " to "})
_MOST_SHOWN = 40


class UnitError(ValueError):
    """A conversion that cannot be made; the message says why."""


class Units(Threaded):
    """The tool `convert`: a quantity in other units, such as `3.5 miles to km` or `20 degC in degF`.

    The number may be an arithmetic expression. Factors are exact where the units' definitions are; a result
    is written as the calculator writes it. Raises `UnitError` or `ExpressionError` for anything else.
    """

    name = "convert"
    description = "Converts units, such as 3.5 miles to km, 90 km/hour to m/s or 20 degC to degF."
    idempotent = True
    parameters = takes_text("conversion")

    def call(self, argument: str) -> str:
        """The quantity in the units that are asked for. Raises `MissingExtraError` without pint."""
        text = argument.translate(_OTHER_SIGNS).replace("->", " to ").strip()
        asked = _ASKED.fullmatch(text) if len(text) <= _LONGEST else None
        if asked is None:
            raise UnitError("write a number, its unit, to, and another unit, such as 3.5 miles to km")
        number, unit, wanted = asked.groups()
        return f"{written(converted(exactly(number), unit, wanted))} {' '.join(wanted.split())}"


def converted(number: Fraction, unit: str, wanted: str) -> Fraction:
    """A number of units in other ones. Raises `UnitError` for units that are none or do not fit."""
    registry = _registry()
    try:
        quantity = registry.Quantity(number, _parsed(unit)).to(_parsed(wanted))
    except _faults() as error:
        raise UnitError(" ".join(str(error).split())) from None
    except (ArithmeticError, TypeError) as error:
        raise UnitError("it is out of range") from error
    return Fraction(quantity.magnitude)


def _parsed(unit: str) -> Any:
    if not _UNIT.fullmatch(unit):
        raise UnitError(f"{unit[:_MOST_SHOWN]!r} is no unit")
    product = re.sub(r"\s+per\s+", "/", unit)
    product = re.sub(r"\s*([*/])\s*", r"\1", product)
    return _registry().parse_units(re.sub(r"\s+", "*", product).replace("%", "percent"))


def _faults() -> tuple[type[Exception], ...]:
    from pint import PintError

    return (PintError, AttributeError, ValueError)


@lru_cache(maxsize=1)
def _registry() -> Any:
    """Pint's registry, over exact numbers; it is read from its file when it is first asked for."""
    try:
        from pint import UnitRegistry
    except ImportError as error:
        raise MissingExtraError("pint", "tools") from error
    return UnitRegistry(non_int_type=Fraction, on_redefinition="ignore", autoconvert_offset_to_baseunit=True)
