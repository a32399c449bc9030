"""Preferences between two chains that are made of what values say of each."""

from collections.abc import Hashable, Sequence

from rlm_agent.models.drive import Asking, adrive, ask_value, drive
from rlm_agent.models.judges import JudgePreference
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Candidate, Policy, Preference, Score, Value
from rlm_agent.models.values import fault_of, most_of
from rlm_agent.structure.errors import InputError

Pair = tuple[Candidate, Candidate]
_THOUGHTS, _VERDICT = 512, 8
"""The most tokens in which a general model compares; a specialist says who is better and no more."""


def choose_preference(
    given: Preference | None, value: Value | None, policy: Policy, prompts: Prompts
) -> Preference:
    """The preference that is given, or one of a value that is; else the policy, asked once in each order.

    Raises `InputError` where both are given, and where neither is and the policy has not learned to compare.
    """
    if given is not None and value is not None:
        raise InputError("a preference and a value both compare chains; give one of them")
    if value is not None:
        return ValuePreference(value)
    if given is not None:
        return given
    longest = _THOUGHTS if policy.task is None else _VERDICT
    return JudgePreference(policy, prompts.require("prefer"), samples=1, max_tokens=longest)


class ValuePreference:
    """P(first ≻ second) = σ(logit(a) − logit(b)) for the values a and b of two chains.

    Bradley and Terry's model (Biometrika 39, 1952) with the odds of a value as the strength of its chain; two
    values of 0, or of 1, are equal. Each chain is scored once a batch, and the first pair that it stands in
    bears the cost. A chain that has no value, or one that is no number, leaves its pairs in error.
    """

    def __init__(self, value: Value) -> None:
        self.value = value
        self.identity = f"pairs:{value.identity}"

    @property
    def most_calls(self) -> int:
        """See `Composite`."""
        return 2 * most_of(self.value)[0]

    @property
    def most_tokens(self) -> int:
        """See `Composite`."""
        return 2 * most_of(self.value)[1]

    def prefer(self, pairs: Sequence[Pair]) -> list[Score]:
        """One score a pair, in order."""
        return drive(self._preferring(pairs))

    async def aprefer(self, pairs: Sequence[Pair]) -> list[Score]:
        """The same without blocking the event loop."""
        return await adrive(self._preferring(pairs))

    def _preferring(self, pairs: Sequence[Pair]) -> Asking[list[Score]]:
        objects = {id(chain): chain for pair in pairs for chain in pair}  # of which many pairs share some
        names = {key: _name(chain) for key, chain in objects.items()}
        chains = {names[key]: chain for key, chain in objects.items()}
        scores = yield from ask_value(self.value, list(chains.values()))
        said = dict(zip(chains, scores, strict=False))  # a value may fall short
        unpaid, compared = dict(said), []
        for first, second in pairs:
            ours, theirs = names[id(first)], names[id(second)]
            bills = [unpaid.pop(name) for name in (ours, theirs) if name in unpaid]
            compared.append(_compared((said.get(ours), said.get(theirs)), bills))
        return compared


def _name(chain: Candidate) -> Hashable:
    """What tells chains apart, as a key."""
    messages = tuple((message["role"], message["content"]) for message in chain.messages)
    return messages, tuple(chain.steps), chain.final


def _compared(scores: Sequence[Score | None], bills: Sequence[Score]) -> Score:
    faults = [fault for score in scores if (fault := _fault(score)) is not None]
    values = [] if faults else [min(1.0, max(0.0, score.value)) for score in scores if score is not None]
    return Score(
        _odds(*values) if values else 0.0,
        prompt_tokens=sum([bill.prompt_tokens for bill in bills]),
        error="; ".join(dict.fromkeys(faults)) or None,
        tokens=sum([bill.tokens for bill in bills]),
        calls=sum([bill.calls for bill in bills]),
    )


def _odds(first: float, second: float) -> float:
    """σ(logit(first) − logit(second)), written without logarithms, which have no value at 0 and 1."""
    ahead, behind = first * (1 - second), second * (1 - first)
    return ahead / (ahead + behind) if ahead + behind else 0.5


def _fault(score: Score | None) -> str | None:
    return "the value sent too few scores" if score is None else fault_of(score)
