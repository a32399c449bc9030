"""Chains of steps to be valued."""

import random

from rlm_agent.models.protocols import Candidate, Message


def candidate(question: str, *steps: str, final: bool = False) -> Candidate:
    return Candidate((Message(role="user", content=question),), steps, final)


def candidates(count: int = 24) -> list[Candidate]:
    """Chains of 0 to 3 steps, some of them finished, some with a common beginning."""
    rng = random.Random(0)
    chains = []
    for _ in range(count):
        steps = [rng.choice(("the answer", "1 2 3", "nobody asked 17")) for _ in range(rng.randint(0, 3))]
        chains.append(candidate(rng.choice(("4 9 10 13", "what is")), *steps, final=rng.random() < 0.3))
    return chains
