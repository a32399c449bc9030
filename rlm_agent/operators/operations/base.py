"""The operations of a graph that a user draws: what they share (`making` and `choosing` have them).

Source: Graph of Thoughts (Besta et al., arXiv 2308.09687, §4), and the authors' code for what it leaves open.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import ClassVar

from rlm_agent.models.drive import Asking
from rlm_agent.models.patterns import list_choices
from rlm_agent.models.prompts import Prompts
from rlm_agent.operators.operations.texts import Asked, text_of
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.operators.writing import most_for_a_step
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.steps import Verifier
from rlm_agent.structure.thoughts import ThoughtGraph

Validator = Callable[[str, str], bool]
"""From the question and a text to whether it is valid."""


@dataclass(frozen=True, slots=True)
class Work:
    """What an operation works with: the thought that stands for it, the thoughts that it is given, its share.

    `answers` says that what it writes are whole solutions, not parts of one.
    """

    graph: ThoughtGraph
    node: str
    inputs: Sequence[str]
    setting: Setting
    allowance: Allowance
    answers: bool = True

    def ask(self, pattern: str, *ids: str) -> Asked:
        """The question put in the words of a pattern, made of these thoughts."""
        texts = self.texts(ids)
        choices = list_choices([[text] for text in texts])
        setting = self.setting.put(pattern, input=texts[0], inputs="\n\n".join(texts), choices=choices)
        return Asked(setting, tuple(id for id in ids if id != self.graph.root))

    def texts(self, ids: Sequence[str]) -> list[str]:
        """What these thoughts say."""
        return [text_of(self.graph, id, self.setting) for id in ids]

    def after(self, outcome: Outcome) -> "Work":
        """The same work when this has been done."""
        return replace(
            self,
            graph=self.graph.updated(outcome.writes),
            allowance=self.allowance.less(outcome.usage),
        )


@dataclass(frozen=True, slots=True)
class Operation(ABC):
    """A node of a user's graph: its name, and the names of the operations whose thoughts it is given.

    Without `after` it comes after the operation that is listed before it; with an empty one, or listed
    first, it is given the question. What it passes on goes to all operations that come after it.
    """

    name: str
    _: KW_ONLY
    after: str | Sequence[str] | None = None

    operator: ClassVar[str]
    begins: ClassVar[bool] = False
    """Whether it can do with the question alone."""
    passes: ClassVar[bool] = False
    """Whether what it puts out is what it is given, or some of it."""
    remakes: ClassVar[bool] = False
    """Whether what it is given are parts of what it makes, and no solutions by themselves."""

    @abstractmethod
    def run(self, work: Work) -> Asking[Outcome]:
        """Do it; `outputs` are the ids of the thoughts that are passed on."""

    def wants(self, inputs: int, setting: Setting) -> Allowance:
        """What it spends on so many thoughts at most; no calls where it asks no models."""
        return Allowance(0, 0, 0, 0)

    def check(self, prompts: Prompts, verifier: Verifier | None, *, fed: bool) -> None:
        """Raise `InputError` for parameters that cannot be used; `fed` unless it is given the question."""
        if not fed and not self.begins:
            raise InputError(
                f"the operation {self.name!r} has no input; name in `after` where it takes it from"
            )

    @property
    def identity(self) -> str:
        """What decides its output beside its input, as far as that can be told."""
        values = (getattr(self, field.name) for field in fields(self))
        named = (getattr(value, "identity", value) for value in values)
        return ",".join((type(self).__name__, *(str(value) for value in named if not callable(value))))


def texts_of(count: int, setting: Setting, parts: int = 1) -> Allowance:
    """What so many texts by the policy cost at most, of so many parts each."""
    calls, tokens = most_for_a_step(setting)
    return Allowance(tokens=count * tokens, calls=count * calls, nodes=count * parts, seconds=0)


def is_valid(work: Work, id: str, valid: Validator | None) -> bool:
    """What the user's function says of a text, or the verifier's word on an answer; an error is a no."""
    if valid is None:
        return work.setting.verifier is not None and work.graph.stats[id]["value"] == 1.0
    try:
        return bool(valid(work.graph.question, *work.texts([id])))
    except Exception:  # noqa: BLE001  a user's function meets a model's text
        return False


def require_one(operation: Operation, *names: str) -> None:
    """`InputError` where one of these parameters is below 1."""
    for name in names:
        if (number := getattr(operation, name)) < 1:
            raise InputError(
                f"{name}={number} of the operation {operation.name!r} does nothing; give at least 1"
            )


def require_judge(name: str, valid: Validator | None, verifier: Verifier | None) -> None:
    """`InputError` where neither a function nor a verifier tells what is valid."""
    if valid is None and verifier is None:
        raise InputError(f"nobody tells the operation {name!r} what is valid; give `valid` or a verifier")
