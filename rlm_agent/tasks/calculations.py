"""Problems that are solved by calculations one after the other, and the splits that keep them apart."""

import hashlib
from dataclasses import dataclass, field

from rlm_agent.tasks.countdown.puzzle import Split
from rlm_agent.tools.calculator import Calculator

_CALCULATOR = Calculator()


@dataclass(frozen=True, slots=True)
class Calculation:
    """What is computed, in a word or two, the expression, and the result as the calculator writes it."""

    label: str
    expression: str
    result: str


@dataclass(slots=True)
class Sheet:
    """The calculations of a problem while it is being made."""

    done: list[Calculation] = field(default_factory=list)

    def compute(self, label: str, expression: str) -> str:
        """Note a calculation; returns its result."""
        result = _CALCULATOR.call(expression)
        self.done.append(Calculation(label, expression, result))
        return result


@dataclass(frozen=True, slots=True)
class Calculated:
    """A question, and the calculations that lead to its answer, which is the last result.

    `names` are what has to be looked up to solve it; none for a problem that says all by itself.
    """

    text: str
    calculations: tuple[Calculation, ...]
    names: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """The gold answer."""
        return self.calculations[-1].result

    @property
    def key(self) -> str:
        """Structure and numbers, without the wording: what makes two problems the same."""
        return "; ".join((*self.names, *(one.expression for one in self.calculations)))

    @property
    def split(self) -> Split:
        """Where the problem belongs, by rule: sha256 of its key as an integer, mod 10.

        0 is validation, 1 and 2 are test, the rest is training.
        """
        residue = int(hashlib.sha256(self.key.encode()).hexdigest(), 16) % 10
        return "validation" if residue == 0 else "test" if residue <= 2 else "train"
