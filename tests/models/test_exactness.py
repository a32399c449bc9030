"""A completion depends on its request alone, to the bit: whoever shares the batch, whatever is cached.

Held against weights in single precision; those of `mini`, with eight bits, hide most differences.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.protocols import Completion, Decoding, Message, Request

MINI = Path(__file__).parents[2] / "rlm_agent" / "models" / "weights" / "mini.gguf"
STEP = "13 - 9 = 4 | 4 4 10\n"


def request(text: str, *, prefix: str = "", max_tokens: int = 12, seed: int = 0) -> Request:
    return Request((Message(role="user", content=text),), prefix, max_tokens, seed, ("\n",), Decoding())


def mixed_requests(count: int) -> list[Request]:
    """Different lengths and questions, some of them alike; prompts of 8 to 140 tokens."""
    rng = random.Random(0)
    return [
        request(
            " ".join(str(rng.randint(1, 3)) for _ in range(rng.choice((4, 4, 30)))),
            prefix=STEP * rng.choice((0, 0, 1, 4)),
            max_tokens=rng.choice((1, 5, 12)),
            seed=rng.randrange(2**63),
        )
        for _ in range(count)
    ]


def content(completion: Completion) -> tuple[str, int, float, str, int]:
    """All of a completion but how its prompt tokens divide into computed and cached ones."""
    c = completion
    return c.text, c.tokens, c.logprob, c.finish, c.prompt_tokens + c.cached_tokens


def each_alone(path: Path, requests: Sequence[Request]) -> list[tuple[str, int, float, str, int]]:
    """The completions of requests that never met, the cache empty before each."""
    policy = GGUFPolicy(path, context=257)
    alone = []
    for each in requests:
        policy.engine.forget()
        alone.append(content(policy.generate([each])[0]))
    policy.close()
    return alone


@pytest.fixture(params=["tiny", "mini"], scope="module")
def model(request: pytest.FixtureRequest, tiny: Path) -> Path:
    return tiny if request.param == "tiny" else MINI


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return mixed_requests(70)


@pytest.fixture(scope="module")
def alone(model: Path, requests: list[Request]) -> list[tuple[str, int, float, str, int]]:
    return each_alone(model, requests)


@pytest.fixture(params=[300, 1000, 4096], scope="module")
def policy(request: pytest.FixtureRequest, model: Path) -> Iterator[GGUFPolicy]:
    """With cells for one request, for some, and for all."""
    policy = GGUFPolicy(model, context=request.param)
    yield policy
    policy.close()


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 70])
def test_batch_companions_and_cached_prefixes_change_no_bit(
    policy: GGUFPolicy, requests: list[Request], alone: list[tuple[str, int, float, str, int]], size: int
) -> None:
    order = list(range(len(requests)))
    random.Random(size).shuffle(order)
    for start in range(0, len(order), size):
        part = order[start : start + size]
        together = policy.generate([requests[index] for index in part])
        assert [content(c) for c in together] == [alone[index] for index in part]


def test_continuation_of_a_cached_chain_equals_a_fresh_prefill(model: Path) -> None:
    """As a search that goes on in a new process meets it: nothing is cached there."""
    policy, known = GGUFPolicy(model), 0
    for step in range(6):
        asked = request("4 9 10 13", prefix=STEP * step, seed=step)
        completion = policy.generate([asked])[0]
        assert completion.cached_tokens >= known
        known = completion.prompt_tokens + completion.cached_tokens - 1
        assert content(completion) == each_alone(model, [asked])[0]
    policy.close()


def test_prompt_is_computed_alike_in_one_piece_and_in_many(model: Path) -> None:
    text = "1 2 3 " * 40
    policy = GGUFPolicy(model)
    for length in (10, 60, 64, 130, len(text)):
        asked = request("7 8", prefix=text[:length])
        assert content(policy.generate([asked])[0]) == each_alone(model, [asked])[0]
    policy.close()
