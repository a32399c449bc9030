"""The engine against `Llama.generate` of llama-cpp-python, which nobody here wrote.

With weights in single precision: with eight bits, the library's own logits move by some tenths between a
prompt that is fed at once and one that is fed token by token, since activations are rounded there.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import Llama

from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job, Tokens
from rlm_agent.models.protocols import Decoding

PROMPTS, LENGTH = 200, 12
NEAR = 1e-2  # two logits that lie closer than this may change places between kernels


@pytest.fixture(scope="module")
def prompts() -> list[Tokens]:
    """Random tokens, some of them with common beginnings."""
    rng = np.random.default_rng(0)
    roots = [tuple(rng.integers(5, 320, 12).tolist()) for _ in range(20)]
    return [
        (*roots[i % 20][: rng.integers(0, 13)], *rng.integers(5, 320, rng.integers(1, 30)).tolist())
        for i in range(PROMPTS)
    ]


@pytest.fixture(scope="module")
def reference(tiny: Path, prompts: list[Tokens]) -> list[list[tuple[int, float]]]:
    """For each prompt the greedy tokens, each with how far the second best logit lay below it."""
    llama = Llama(str(tiny), n_ctx=256, n_threads=1, logits_all=True, verbose=False)
    found = []
    for prompt in prompts:
        chain = []
        llama.reset()  # type: ignore[no-untyped-call]
        for token in llama.generate(list(prompt), temp=0.0):
            scores = np.sort(llama.scores[llama.n_tokens - 1])
            chain.append((int(token), float(scores[-1] - scores[-2])))
            if len(chain) == LENGTH:
                break
        found.append(chain)
    llama.close()
    return found


@pytest.fixture(scope="module", params=[300, 4096])
def engine(request: pytest.FixtureRequest, tiny: Path) -> Iterator[Engine]:
    """With cells for few of the prompts, so that they put each other aside, and for many."""
    engine = Engine(tiny, context=request.param)
    yield engine
    engine.close()


@pytest.mark.parametrize("together", [1, PROMPTS])
def test_greedy_tokens_are_those_of_the_library(
    engine: Engine, prompts: list[Tokens], reference: list[list[tuple[int, float]]], together: int
) -> None:
    """Up to the first place where the two best logits are as good as equal."""
    jobs = [Job(prompt, LENGTH, decoding=Decoding(temperature=0), ends=False) for prompt in prompts]
    results = [r for at in range(0, PROMPTS, together) for r in engine.complete(jobs[at : at + together])]
    compared = 0
    for result, chain in zip(results, reference, strict=True):
        for token, (expected, gap) in zip(result.tokens, chain, strict=True):
            if gap < NEAR:
                break
            assert token == expected
            compared += 1
    assert compared > PROMPTS * LENGTH / 2


@pytest.mark.slow
def test_memory_stays_flat_over_a_million_tokens(tiny: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    engine = Engine(tiny, context=2000)
    rng, sizes = np.random.default_rng(0), []
    while engine.decoded < 1_000_000:
        prompts = [tuple(rng.integers(5, 300, 20).tolist()) for _ in range(60)]
        engine.complete([Job((5, *prompt), 60, seed=i, ends=False) for i, prompt in enumerate(prompts)])
        sizes.append(resident())
    engine.close()
    settled = sizes[len(sizes) // 4 :]
    assert max(settled) - min(settled) < 20_000_000
