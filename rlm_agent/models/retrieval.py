"""How a strategy retrieves: with what, when, how much of it, and how it is shown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rlm_agent.models.patterns import fill, require_places
from rlm_agent.models.retrievers import as_retriever
from rlm_agent.retrieval.protocols import Passage, Retriever
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.ids import fingerprint
from rlm_agent.structure.thoughts import Cited
from rlm_agent.tools.actions import FINISH, NAME
from rlm_agent.tools.calling import Limits

When = Literal["asked", "once", "each", "unsure"]
"""Where the policy asks, once before the search, at every step, or where its entropy says so."""

LONGEST_QUERY = 1000
_LONGEST_SOURCE = 200


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How a strategy retrieves, and with what.

    retriever: a `Retriever`, or a LangChain `BaseRetriever`.
    when: `"asked"`: where a step is `Action: search[query]`. `"once"`: before the search, with the
        question as the query. `"each"`: at every step of the policy's own, with the step as the query.
        `"unsure"`: at those whose mean `entropy` (nats a token) is at least so large. None is `"asked"`
        where the strategy and the policy can ask, else `"once"`.
    alternatives: how many observations a query may have, each with the next passages: a search over thoughts
        branches over them, the best first. A strategy that writes single chains looks at the first alone.
    passages: how many passages stand in one observation, or, `"once"`, are read before the search.
    name: of the action. shown: how a passage is put, with `{text}` and, if wanted, `{source}`.
    limits: of a search, in seconds, and of a passage, in characters.

    Raises `InputError` or `UnknownNameError` for what makes no sense.
    """

    retriever: Any
    when: When | None = None
    alternatives: int = 4
    passages: int = 1
    name: str = "search"
    entropy: float = 0.5
    shown: str = "{text}"
    limits: Limits = field(default_factory=lambda: Limits(seconds=10.0, characters=600))
    finds: Retriever = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "finds", as_retriever(self.retriever))
        if self.when is not None and self.when not in get_args(When):
            raise UnknownNameError(
                f"nobody retrieves {self.when!r}; choose one of {', '.join(get_args(When))}"
            )
        if self.alternatives < 1 or self.passages < 1 or not 0 <= self.entropy < math.inf:
            raise InputError(
                f"alternatives={self.alternatives}, passages={self.passages}, entropy={self.entropy}: give "
                "at least 1, 1 and 0"
            )
        if not NAME.fullmatch(self.name) or self.name.lower() == FINISH:
            raise InputError(f"no model could ask for {self.name!r}; name it in letters, digits, _ and -")
        require_places(self.shown, "text")

    @property
    def idempotent(self) -> bool:
        """A search does no harm."""
        return True

    @property
    def description(self) -> str:
        """What a policy is told of the action."""
        return "Finds a passage in the documents. The argument says what to look for."

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON schema of the action's argument."""
        query = {"query": {"type": "string"}}
        return {"type": "object", "properties": query, "required": ["query"], "additionalProperties": False}

    def call(self, argument: str) -> object:
        """The search as an ordinary tool, for a strategy whose observations have no alternatives."""
        (found,) = self.finds.search([argument[:LONGEST_QUERY]], self.passages)
        return self._said(found)

    async def acall(self, argument: str) -> object:
        """The same without blocking the event loop."""
        (found,) = await self.finds.asearch([argument[:LONGEST_QUERY]], self.passages)
        return self._said(found)

    @property
    def identity(self) -> str:
        """What tells one retrieval from another; stored with a run."""
        numbers = (self.when, self.alternatives, self.passages, self.name, self.entropy, self.limits)
        return fingerprint(self.finds.identity, self.shown, *numbers)

    def cited(self, found: Sequence[Passage], size: int) -> list[Cited]:
        """Passages as observations will show them, so many in each; what says the same is shown once."""
        texts: dict[str, str] = {}
        for passage in found:
            source = _plain(passage.source, _LONGEST_SOURCE)
            shown = fill(self.shown, text=_plain(passage.text, self.limits.characters), source=source)
            if shown.strip():
                texts.setdefault(shown, source)
        pieces = list(texts.items())
        groups = [pieces[start : start + size] for start in range(0, len(pieces), size)]
        return [_joined(group) for group in groups] or [Cited(text="(nothing was found)", sources=[])]

    def _said(self, found: Sequence[Passage]) -> str:
        return self.cited(found, self.passages)[0]["text"]


def as_retrieval(thing: Any) -> Retrieval | None:
    """A `Retrieval` of itself, or of a retriever with the defaults; None for none."""
    return thing if thing is None or isinstance(thing, Retrieval) else Retrieval(thing)


def _joined(group: Sequence[tuple[str, str]]) -> Cited:
    """Several passages in one observation are numbered."""
    texts = [text for text, _ in group]
    numbered = " ".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))
    sources = dict.fromkeys(source for _, source in group if source)
    return Cited(text=texts[0] if len(texts) == 1 else numbered, sources=list(sources))


def _plain(text: str, most: int) -> str:
    """A text on one line, without what no one can read, cut where it is too long."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text[:most])
    return f"{' '.join(kept.split())}{' …' if len(text) > most else ''}"
