"""Random tree work through one engine, and whether resident memory stays flat meanwhile.

    python benchmarks/soak.py [TOKENS] [--model mini] [--context 2048] [--seed 0]

Trees of random prompts grow at random leaves; some calls are cancelled half way, some leaves looked at as a
value does, some branches pruned, whole trees given up for new ones, and the cache holds but a part of them.
It ends when so many tokens were decoded, prompts included. A line for each twentieth: decoded, seconds,
resident memory. Memory is flat where the line through all but the first quarter rises by at most 5% of the
median; else the command ends with 1.
"""

import argparse
import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median

from rlm_agent.models.embedded import model_file
from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job, Tokens

LINES, TREES, LEAVES, CHILDREN = 20, 8, 64, 4
FLAT = 0.05
Sample = tuple[int, int]
"""Tokens decoded so far, and bytes of resident memory."""


@dataclass
class Work:
    """Trees over an engine: of each the prompt and its leaves, which begin with it."""

    engine: Engine
    draw: random.Random
    trees: list[tuple[Tokens, list[Tokens]]] = field(default_factory=list)

    def step(self) -> None:
        """One thing of all that searches do."""
        if len(self.trees) < TREES:
            self.plant()
            return
        choice = self.draw.choices(
            (self.grow, self.cancel, self.look, self.prune, self.give_up), (8, 2, 3, 2, 1)
        )
        choice[0]()

    def plant(self) -> None:
        """A tree of a new prompt."""
        length = self.draw.randint(2, self.engine.longest // 2)
        prompt = tuple(self.draw.choices(range(5, 256), k=length))
        self.trees.append((prompt, [prompt]))

    def grow(self) -> None:
        """Leaves of several trees get children, all in one call."""
        parents = [self.draw.choice(self.trees)[1] for _ in range(self.draw.randint(1, 4))]
        leaves = [(parent, leaf) for parent in parents for leaf in [self.draw.choice(parent)]]
        jobs = [self.job(leaf) for _, leaf in leaves for _ in range(CHILDREN)]
        results = self.engine.complete(jobs)
        for index, (parent, leaf) in enumerate(leaves):
            children = results[index * CHILDREN : (index + 1) * CHILDREN]
            parent += [leaf + child.tokens for child in children if child.error is None and child.tokens]
            del parent[:-LEAVES]

    def cancel(self) -> None:
        """A call is left after some tokens."""
        told = self.engine.stream([self.job(self.leaf()) for _ in range(self.draw.randint(1, 12))])
        for _ in range(self.draw.randint(1, 40)):
            next(told, None)
        told.close()

    def look(self) -> None:
        """What stands after some leaves is read, as by a value."""
        self.engine.complete([Job(self.leaf(), 0, hidden=self.draw.random() < 0.5) for _ in range(4)])

    def prune(self) -> None:
        """A leaf is forgotten from somewhere behind its prompt on."""
        _, leaves = self.draw.choice(self.trees)
        leaf = leaves.pop(self.draw.randrange(len(leaves))) if len(leaves) > 1 else leaves[0]
        self.engine.release(leaf, self.draw.randint(0, len(leaf) - 1))

    def give_up(self) -> None:
        """A tree is given up, and told so as often as not."""
        prompt, _ = self.trees.pop(self.draw.randrange(len(self.trees)))
        if self.draw.random() < 0.5:
            self.engine.release(prompt, 0)

    def leaf(self) -> Tokens:
        """Any leaf of any tree."""
        return self.draw.choice(self.draw.choice(self.trees)[1])

    def job(self, prompt: Tokens) -> Job:
        """Some more tokens."""
        return Job(prompt, self.draw.randint(1, 24), seed=self.draw.getrandbits(32), ends=False)


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(samples: list[Sample]) -> tuple[float, float]:
    """How memory grows over all but the first quarter: bytes a token, and in all as a share of the median."""
    settled = samples[len(samples) // 4 :]
    tokens, sizes = zip(*settled, strict=True)
    slope = linear_regression(tokens, sizes).slope
    return slope, slope * (tokens[-1] - tokens[0]) / median(sizes)


def soak(engine: Engine, tokens: int, seed: int) -> list[Sample]:
    """Work until so many tokens were decoded; a sample and a line for each twentieth."""
    work, samples, started = Work(engine, random.Random(seed)), list[Sample](), time.monotonic()
    for line in range(1, LINES + 1):
        while engine.decoded < tokens * line // LINES:
            work.step()
        samples.append((engine.decoded, resident()))
        seconds = time.monotonic() - started
        print(
            f"{engine.decoded:>10,} tokens  {seconds:7.0f} s  {samples[-1][1] / 2**20:8.1f} MiB", flush=True
        )
    return samples


def main() -> int:
    """Run, tell, and say whether memory grew."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tokens", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    engine = Engine(model_file(given.model), context=given.context)
    samples = soak(engine, given.tokens, given.seed)
    engine.close()
    slope, share = growth(samples)
    flat = share <= FLAT
    print(
        f"{slope * 1e6 / 2**20:+.2f} MiB per million tokens, {share:+.1%} of the median over the last three "
        f"quarters: {'flat' if flat else 'not flat'}"
    )
    return int(not flat)


if __name__ == "__main__":
    sys.exit(main())
