"""Preferences between two chains that are made of what values say of each."""

from collections.abc import Hashable, Sequence

from rlm_agent.models.drive import Asking, adrive, ask_value, drive
from rlm_agent.models.judges import JudgePreference
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Candidate, Message, Policy, Preference, Score, Value
from rlm_agent.models.values import fault_of, most_of
from rlm_agent.structure.errors import InputError

Pair = tuple[Candidate, Candidate]
_THOUGHTS, _VERDICT = 512, 8
"""The most tokens in which a general model compares; a specialist says who is better and no more."""

_TOO_FEW = "the value sent too few scores"


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
        chains, places = _distinct(pairs)
        scores = yield from ask_value(self.value, chains)
        faults = [fault_of(score) for score in scores] + [_TOO_FEW] * (len(chains) - len(scores))
        values = [min(1.0, max(0.0, score.value)) for score in scores]
        unpaid, compared = dict(enumerate(scores)), []
        for first, second in pairs:
            sides = places[id(first)], places[id(second)]
            wrong = [fault for side in sides if (fault := faults[side]) is not None]
            value = 0.0 if wrong else _odds(values[sides[0]], values[sides[1]])
            bills = [unpaid.pop(side) for side in sides if side in unpaid]
            compared.append(_billed(value, wrong, bills))
        return compared


def _distinct(pairs: Sequence[Pair]) -> tuple[list[Candidate], dict[int, int]]:
    """The chains that say different things, and the place of each object's among them, by its id."""
    objects = {id(chain): chain for pair in pairs for chain in pair}  # of which many pairs share some
    spoken = {id(chain.messages): chain.messages for chain in objects.values()}
    told = {key: _said(messages) for key, messages in spoken.items()}
    chains, numbers, places = list[Candidate](), dict[Hashable, int](), dict[int, int]()
    for key, chain in objects.items():
        name = told[id(chain.messages)], tuple(chain.steps), chain.final
        places[key] = numbers.setdefault(name, len(chains))
        if len(numbers) > len(chains):
            chains.append(chain)
    return chains, places


def _said(messages: Sequence[Message]) -> Hashable:
    return tuple((message["role"], message["content"]) for message in messages)


def _billed(value: float, faults: Sequence[str], bills: Sequence[Score]) -> Score:
    prompt_tokens = tokens = calls = 0
    for bill in bills:
        prompt_tokens += bill.prompt_tokens
        tokens += bill.tokens
        calls += bill.calls
    error = "; ".join(dict.fromkeys(faults)) if faults else None
    return Score(value, prompt_tokens, error, tokens, calls)


def _odds(first: float, second: float) -> float:
    """σ(logit(first) − logit(second)), written without logarithms, which have no value at 0 and 1."""
    ahead, behind = first * (1 - second), second * (1 - first)
    return ahead / (ahead + behind) if ahead + behind else 0.5
