"""Thoughts, their statistics, and the id-keyed graph that they form.

Records are plain JSON dicts, so that any checkpointer stores them as they are; the `TypedDict`s and
`ThoughtGraph` are typed views over them. A thought never changes once written; what changes as the
search goes on lives in its `Stats`. Children need no index: the ids of a thought's children derive from
its own id and from their number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NotRequired, TypedDict, TypeVar, final

from rlm_agent.structure.ids import child_id
from rlm_agent.structure.index import ENDS, Index, Key

T = TypeVar("T")

Kind = Literal["root", "step", "final", "failed"]
"""`root` holds the question, `step` can be continued, `final` ends a chain, `failed` was refused."""


class Cited(TypedDict):
    """What one observation shows of a retriever's findings: its text, and where that stands."""

    text: str
    sources: list[str]


class Thought(TypedDict):
    """One node's content, immutable.

    `text` is the step as the policy wrote it, without its delimiter (of a root: the question). `tokens`
    counts what was generated for it, end marks included; `logprob` is the natural logarithm of their joint
    probability under the policy at temperature 1. `state` is the checker's canonical state after the step,
    `answer` the answer of a final thought, `reason` why a failed one was refused. `parents` names further
    parents, known at birth, of an aggregate; its id derives from `parent`. `base` is the thought whose steps
    it goes on from where that is not its parent: what refines a thought is its child and stands in its place.
    `depth` counts the steps of its chain. `operator` names the operator or the action that made it, where
    that is not generate. `given`, of a root, holds the steps that were there before the search began, and
    `observed` what was retrieved for the question, to be read before them; `recalled` are notes on earlier
    questions. `sources` are where that stands
    which an observation or a root shows. The first observation of a `query` keeps it, and in `passages` all
    that it found, best first: what the next ones will show. `called`, of an observation, are the marks of the
    calls that it answers, empty where one is made each time anew; `said` is what each of several came to.
    `interval` is the beginning and the length of the text's place among all that the policy may write here,
    in [0, 1): see `operators.rules.distinct`. `entropy` (nats) and `varentropy` (nats²), of a traced search,
    are the means over the text's tokens of what the policy thought of them: see `models.protocols.Trace`.
    """

    parent: str | None
    index: int
    depth: int
    kind: Kind
    text: str
    tokens: int
    logprob: float
    state: NotRequired[str]
    answer: NotRequired[str]
    reason: NotRequired[str]
    parents: NotRequired[list[str]]
    base: NotRequired[str]
    operator: NotRequired[str]
    given: NotRequired[list[str]]
    observed: NotRequired[list[str]]
    sources: NotRequired[list[str]]
    recalled: NotRequired[list[str]]
    query: NotRequired[str]
    passages: NotRequired[list[Cited]]
    called: NotRequired[list[str]]
    said: NotRequired[list[str]]
    interval: NotRequired[list[float]]
    entropy: NotRequired[float]
    varentropy: NotRequired[float]


class Stats(TypedDict):
    """What changes about a thought: absolute values, so that writing them twice does no harm.

    `visits` counts the backups through the thought and `q` is their mean return in [-1, 1]; `value` is
    its own evaluation in [0, 1], None before one; `children` counts those generated so far; `closed`
    means that it is not to be selected again (pruned, finished or exhausted). `population`, of a root only,
    counts the particles that stand at each thought. `feedback` is what a textual evaluation says of it, and
    `preferences` maps the ids of thoughts that it was compared with to the probability that it is the better
    one; a thought that has any, or an empty mapping, is ranked (`operators.rules.borda`). `merged` is the
    thought that stands for it, since it says the same. `kept`, of an operation in a user's graph of them, are
    the thoughts that it passes on, and is missing before it has run. What a human has pruned is `dropped`: it
    holds no answer.
    """

    visits: int
    q: float
    value: float | None
    children: int
    closed: bool
    population: NotRequired[dict[str, int]]
    feedback: NotRequired[str]
    preferences: NotRequired[dict[str, float]]
    kept: NotRequired[list[str]]
    merged: NotRequired[str]
    dropped: NotRequired[bool]


def fresh_stats(thought: Thought) -> Stats:
    """The statistics of a thought just born; only a root or a step can be selected."""
    return Stats(visits=0, q=0.0, value=None, children=0, closed=thought["kind"] in ("final", "failed"))


@dataclass(frozen=True, slots=True)
class Writes:
    """What an operator adds: new thoughts and the new statistics of new or old ones."""

    thoughts: dict[str, Thought]
    stats: dict[str, Stats]

    def followed_by(self, later: "Writes") -> "Writes":
        """Both together; where they write the same, the later one holds."""
        if not later.thoughts and not later.stats:
            return self
        return Writes({**self.thoughts, **later.thoughts}, {**self.stats, **later.stats})


@dataclass(frozen=True, slots=True)
class ThoughtGraph:
    """A read-only view of one question's thoughts: `root` and what descends from it.

    The `index` is one that was kept from the last round, or made when something is looked up.
    """

    root: str
    thoughts: Mapping[str, Thought]
    stats: Mapping[str, Stats]
    index: Index = field(default_factory=Index, compare=False, repr=False)

    @property
    def question(self) -> str:
        """The text of the root."""
        return self.thoughts[self.root]["text"]

    def children(self, id: str) -> list[str]:
        """The ids of a thought's children, in the order of their birth."""
        return [child_id(id, index) for index in range(self.stats[id]["children"])]

    def path(self, id: str) -> list[str]:
        """The ids from the root to a thought, both included, along primary parents."""
        path = [id]
        while (parent := self.thoughts[path[-1]]["parent"]) is not None:
            path.append(parent)
        return path[::-1]

    def base(self, id: str) -> str | None:
        """The thought whose steps a thought goes on from: its base or its parent; None for a root."""
        thought = self.thoughts[id]
        return thought.get("base", thought["parent"])

    def chain(self, id: str) -> list[str]:
        """The ids of the thoughts whose texts lead to a thought, its own included; none for the root."""
        chain, thoughts = [], self.thoughts
        step: str | None = id
        while step is not None and step != self.root:
            chain.append(step)
            thought = thoughts[step]  # not by `base`: a chain may be long
            step = thought.get("base", thought["parent"])
        return chain[::-1]

    @property
    def opening(self) -> list[str]:
        """The steps that were there before the search began: what was retrieved, and what was given."""
        root = self.thoughts[self.root]
        opened = "observed" in root or "given" in root  # seldom, and asked for each text
        return [*root.get("observed", ()), *root.get("given", ())] if opened else []

    def steps(self, id: str) -> list[str]:
        """The texts of the steps that lead to a thought, its own included, behind the `opening`."""
        return list(self.texts(id))

    def texts(self, id: str) -> tuple[str, ...]:
        """The same as `steps`, as the index keeps them: of a long chain there are no copies."""
        opening, texts = self.opening, self.index.texts(id, self.root, *self._layers())
        return (*opening, *texts) if opening else texts

    def prefix(self, id: str, delimiter: str) -> str:
        """The same as one text, in which the delimiter ends each step."""
        opening = "".join(f"{step}{delimiter}" for step in self.opening)
        return opening + self.index.joined(delimiter, id, self.root, *self._layers())

    def sources(self, id: str) -> list[str]:
        """Where that stands which was retrieved on the way to a thought, each once, in reading order."""
        cited = (self.thoughts[step].get("sources", []) for step in (self.root, *self.chain(id)))
        return list(dict.fromkeys(source for sources in cited for source in sources))

    def walk(self) -> Iterator[str]:
        """All ids of this question, parents first, siblings in the order of their birth."""
        pending = [self.root]
        while pending:
            id = pending.pop()
            yield id
            pending.extend(reversed(self.children(id)))

    def finals(self) -> list[str]:
        """The ids of the thoughts that end a chain, in the order of `walk`; none that a human has dropped."""
        return [id for id in self.walk() if self.thoughts[id]["kind"] == "final" and not self.dropped(id)]

    def ends(self) -> list[str]:
        """The same in the order of their birth, without a walk over the graph."""
        return [id for id in self.find(ENDS) if not self.dropped(id)]

    def dropped(self, id: str) -> bool:
        """Whether a human has pruned a thought."""
        return self.stats[id].get("dropped", False)

    def find(self, key: Key) -> Sequence[str]:
        """The ids of the thoughts that the index knows by a key, in the order of their birth."""
        return self.index.find(key, self.root, *self._layers())

    def updated(self, writes: Writes) -> "ThoughtGraph":
        """The graph after an operator's writes; this one stays as it is."""
        if not writes.thoughts and not writes.stats:
            return self
        thoughts, stats = _laid_over(self.thoughts, writes.thoughts), _laid_over(self.stats, writes.stats)
        return ThoughtGraph(self.root, thoughts, stats, self.index)

    def _layers(self) -> tuple[Mapping[str, Thought], Mapping[str, Thought]]:
        """The thoughts that are settled, and those laid over them."""
        thoughts = self.thoughts
        return (thoughts.below, thoughts.above) if type(thoughts) is Overlay else (thoughts, {})


@final
class Overlay(Mapping[str, T]):
    """A large mapping with a few entries laid over it, so that nobody copies the large one.

    Ask by `type` whether a mapping is one: of an abstract class, `isinstance` takes far longer to say no.
    """

    __slots__ = ("above", "below")

    def __init__(self, below: Mapping[str, T], above: Mapping[str, T]) -> None:
        self.below = below
        self.above = above

    def __getitem__(self, key: str) -> T:
        return self.above[key] if key in self.above else self.below[key]

    def __iter__(self) -> Iterator[str]:
        yield from self.below
        yield from (key for key in self.above if key not in self.below)

    def __len__(self) -> int:
        return len(self.below) + sum(key not in self.below for key in self.above)

    def __contains__(self, key: object) -> bool:
        return key in self.above or key in self.below


def _laid_over(below: Mapping[str, T], above: Mapping[str, T]) -> Mapping[str, T]:
    """`above` over `below`, of which what was laid over it before is the small part."""
    if not above:
        return below
    if type(below) is Overlay:
        return Overlay(below.below, {**below.above, **above})
    return Overlay(below, above)
