"""Operations that make new thoughts of those that they are given: generate, aggregate, improve."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlm_agent.models.drive import Asking
from rlm_agent.models.patterns import require_places
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Message, Policy
from rlm_agent.operators.evaluate import verify
from rlm_agent.operators.operations.base import (
    Operation,
    Validator,
    Work,
    is_valid,
    require_judge,
    require_one,
    texts_of,
)
from rlm_agent.operators.operations.texts import Asked, Parser, Reading, text_of, write
from rlm_agent.operators.setting import Outcome, Setting, nothing
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.steps import Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate(Operation):
    """`k` new thoughts of each thought that it is given.

    ask: the pattern of the prompt, with the places `{question}` and `{input}`.
    parse: takes the text from a reply, or `parts` texts of which each becomes a thought (the paper splits a
        list in two so); without it the reply is the text.
    """

    k: int = 1
    ask: str = "{question}"
    parse: Parser | None = None
    parts: int = 1

    operator = "generate"
    begins = remakes = True

    def run(self, work: Work) -> Asking[Outcome]:
        asked = [work.ask(self.ask, id) for _ in range(self.k) for id in work.inputs]
        reading = Reading(self.operator, self.parse, self.parts, work.answers)
        return (yield from written(work, asked, reading))

    def wants(self, inputs: int, setting: Setting) -> Allowance:
        return texts_of(inputs * self.k, setting, self.parts)

    def check(self, prompts: Prompts, verifier: Verifier | None, *, fed: bool) -> None:
        Operation.check(self, prompts, verifier, fed=fed)
        require_one(self, "k", "parts")
        if self.parts > 1 and self.parse is None:
            raise InputError(
                f"{self.name!r} needs a parser to find {self.parts} parts in a reply; give `parse`"
            )
        if fed:
            require_places(self.ask, "input")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason(Generate):
    """As `Generate`, by another policy than the strategy's: another model, or a whole strategy as one.

    policy: see `graphs.nested.ReasonerPolicy` for strategies; their own searches are counted, and bounded by
        this operation's share of the budget.
    """

    policy: Policy

    def run(self, work: Work) -> Asking[Outcome]:
        return (yield from Generate.run(self, replace(work, setting=self._setting(work.setting))))

    def wants(self, inputs: int, setting: Setting) -> Allowance:
        return Generate.wants(self, inputs, self._setting(setting))

    def _setting(self, setting: Setting) -> Setting:
        return replace(setting, policy=self.policy, decoding=self.policy.decoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate(Operation):
    """`k` new thoughts, each joined from all thoughts that it is given.

    ask: the pattern of the prompt, with the places `{question}`, `{inputs}` (the texts, an empty line between
        them) and `{choices}` (the same, numbered); by default the policy's own words, if it has learned to.
    """

    k: int = 1
    ask: str | None = None
    parse: Parser | None = None

    operator = "aggregate"
    remakes = True

    def run(self, work: Work) -> Asking[Outcome]:
        pattern = self.ask or work.setting.prompts.require("aggregate")
        asked = [work.ask(pattern, *work.inputs)] * self.k
        return (yield from written(work, asked, Reading(self.operator, self.parse, answers=work.answers)))

    def wants(self, inputs: int, setting: Setting) -> Allowance:
        return texts_of(self.k, setting)

    def check(self, prompts: Prompts, verifier: Verifier | None, *, fed: bool) -> None:
        Operation.check(self, prompts, verifier, fed=fed)
        require_one(self, "k")
        pattern = self.ask or prompts.require("aggregate")
        if "{choices}" not in pattern:
            require_places(pattern, "inputs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Improve(Operation):
    """`k` new versions of each thought that it is given.

    ask: the pattern of the prompt, with the places `{question}` and `{input}`. Without it, the policy first
        says what is wrong, which is a thought of its own, and then writes the text anew (Self-Refine, Madaan
        et al., arXiv 2303.17651), if it has learned to.
    """

    k: int = 1
    ask: str | None = None
    parse: Parser | None = None

    operator = "refine"

    def run(self, work: Work) -> Asking[Outcome]:
        return (yield from improved(work, work.inputs, self.k, self.ask, self.parse))

    def wants(self, inputs: int, setting: Setting) -> Allowance:
        return texts_of(inputs * (self.k + (self.ask is None)), setting)

    def check(self, prompts: Prompts, verifier: Verifier | None, *, fed: bool) -> None:
        Operation.check(self, prompts, verifier, fed=fed)
        require_one(self, "k")
        _check_improving(self.ask, prompts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateAndImprove(Operation):
    """Each thought as it is if it is valid, else improved until it is, at most `tries` times.

    valid: by default, whether the verifier accepts the answer. The last version is passed on, valid or not.
    `ask` and `parse` are those of `Improve`.
    """

    tries: int = 3
    valid: Validator | None = None
    ask: str | None = None
    parse: Parser | None = None

    operator = "refine"
    passes = True

    def run(self, work: Work) -> Asking[Outcome]:
        outcome, versions = nothing(), list(work.inputs)
        for _ in range(self.tries):
            now = work.after(outcome)
            bad = [id for id in versions if not is_valid(now, id, self.valid)]
            made = yield from improved(now, bad, 1, self.ask, self.parse)
            outcome = outcome.followed_by(made)
            thoughts = now.after(made).graph.thoughts
            better = {thoughts[id]["parents"][0]: id for id in made.outputs}
            versions = [better.get(id, id) for id in versions]
        return replace(outcome, outputs=versions)

    def wants(self, inputs: int, setting: Setting) -> Allowance:
        return texts_of(inputs * self.tries * (1 + (self.ask is None)), setting)

    def check(self, prompts: Prompts, verifier: Verifier | None, *, fed: bool) -> None:
        Operation.check(self, prompts, verifier, fed=fed)
        require_one(self, "tries")
        _check_improving(self.ask, prompts)
        require_judge(self.name, self.valid, verifier)


def written(work: Work, asked: Sequence[Asked], reading: Reading) -> Asking[Outcome]:
    """`write`, and the verifier's word on what are answers; `outputs` are those that have not failed."""
    made = yield from write(work.graph, work.node, asked, reading, work.allowance)
    graph = work.after(made).graph
    judged = yield from verify(graph, made.outputs, work.setting, work.allowance)
    usable = [id for id in made.outputs if graph.thoughts[id]["kind"] != "failed"]
    return replace(made.followed_by(judged), outputs=usable)


def improved(
    work: Work, ids: Sequence[str], count: int, ask: str | None, parse: Parser | None
) -> Asking[Outcome]:
    """`count` new versions of each thought; the first of a version's `parents` is what it replaces."""
    reading = Reading("refine", parse, answers=work.answers)
    if ask is not None:
        return (yield from written(work, [work.ask(ask, id) for _ in range(count) for id in ids], reading))
    prompts = work.setting.prompts
    criticise, rewrite = prompts.require("critique"), prompts.require("rewrite")
    asked = [_replying(work, (id,), criticise) for id in ids]
    said = yield from write(work.graph, work.node, asked, Reading("critique"), work.allowance)
    now = work.after(said)
    faults = [id for id in said.outputs if now.graph.thoughts[id]["kind"] != "failed"]
    pairs = [(now.graph.thoughts[id]["parents"][0], id) for id in faults]
    asked = [_replying(now, pair, criticise, rewrite) for _ in range(count) for pair in pairs]
    made = yield from written(now, asked, reading)
    return replace(said.followed_by(made), outputs=made.outputs)


def _replying(work: Work, made_of: tuple[str, ...], *asks: str) -> Asked:
    """A conversation about a text: the text, and in turn what is asked and what was said to that."""
    turns = []
    for id, ask in zip(made_of, asks, strict=True):
        turns.append(Message(role="assistant", content=text_of(work.graph, id, work.setting)))
        turns.append(Message(role="user", content=ask))
    return Asked(work.setting.asking(*turns), made_of)


def _check_improving(ask: str | None, prompts: Prompts) -> None:
    if ask is not None:
        require_places(ask, "input")
    else:
        prompts.require("critique")
        prompts.require("rewrite")
