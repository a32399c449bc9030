"""Remote models against the same model in this process, against a bare load, and under faults.

    python -m benchmarks.remote answers [--n 100]
    python -m benchmarks.remote throughput [--model mini|125m] [--branches 64] [--rounds 7]
    python -m benchmarks.remote faults [--searches 500] [--seed 0]

All against llama.cpp's own server, in a process of its own on this machine. `answers`: greedy strategies
give the same answers over the server as in this process, and report the tokens that the server counted:
once with the plain kernel, as in this process, and once as the server chooses, with flash attention.
`throughput`: a batch of branches, four of each prompt, through `RemotePolicy` and through `httpx` alone, as
one client and as eight, in turn; the ratio is taken within a round. `faults`: searches through a proxy that
spoils 30% of all answers, in eight threads.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from rlm_agent import Budget, create_reasoner
from rlm_agent.bench.models import SIZES, make_random_model
from rlm_agent.evaluation.runs import solve
from rlm_agent.models.protocols import Decoding, Message, Policy, Request
from rlm_agent.models.remote import loop
from rlm_agent.models.remote.batch import Batch
from rlm_agent.models.remote.client import Patience
from rlm_agent.models.remote.policy import RemotePolicy
from rlm_agent.tasks.registry import get_task
from tests.proxy import Proxy, spoiling
from tests.servers import MINI, counted, serving

TASK = get_task("game24")
GREEDY: dict[str, dict[str, Any]] = {
    "chain": {},
    "beam_search": {"width": 2, "expansions": 2, "temperature": 0.0},
    "best_of_n": {"n": 2, "temperature": 0.0},
}
TOKENS = 300


def answers(n: int) -> None:
    """Print how many answers are equal, and the tokens by our count and the server's."""
    for kernel, flash in {"plain kernel": 0, "as it comes": -1}.items():
        _answers(n, kernel, flash)


def _answers(n: int, kernel: str, flash: int) -> None:
    problems = TASK.sample("test", n, 0)
    with serving("llama.cpp", slots=8, flash=flash) as url:
        policy = RemotePolicy(f"{url}/v1", tokenizer="mini")
        for strategy, parameters in GREEDY.items():
            here = [_solve(strategy, "mini", one, parameters) for one in problems]
            before = counted(url)["tokens_predicted_total"]
            there = [_solve(strategy, policy, one, parameters) for one in problems]
            theirs = counted(url)["tokens_predicted_total"] - before
            equal = sum(a.answer == b.answer for a, b in zip(here, there, strict=True))
            others = [a.question for a, b in zip(here, there, strict=True) if a.answer != b.answer]
            tokens = sum(one.completion_tokens for one in there)
            right = sum(bool(one.verified) for one in there)
            print(f"{kernel}, {strategy}: {equal}/{n} answers equal but {others}, {right} right")
            print(f"{kernel}, {strategy}: {tokens} tokens by our count, {theirs:.0f} by the server's")
        policy.close()


def _solve(strategy: str, model: str | Policy, problem: Any, parameters: dict[str, Any]) -> Any:
    reasoner = create_reasoner(
        strategy, model, steps="game24", budget=Budget(tokens=TOKENS), seed=1, **parameters
    )
    return solve(reasoner, TASK, problem)


def throughput(name: str, branches: int, rounds: int) -> None:
    """Print tokens a second through the policy and through bare httpx, and the median of their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        path = MINI if name == "mini" else Path(folder) / f"{name}.gguf"
        if name != "mini":
            make_random_model(path, SIZES[name])
        with serving("llama.cpp", path, slots=branches, context=128) as url:
            policy = RemotePolicy(f"{url}/v1", tokenizer=path, concurrency=branches)
            ratios = _rounds(policy, url, _requests(name, branches), rounds)
            policy.close()
    for other, each in ratios.items():
        print(f"{name}, {branches} branches, to {other}: median {statistics.median(each):.3f} of {each}")


def _requests(name: str, branches: int) -> list[Request]:
    """A step each, of several parents' children; what comes before differs, so that nothing is trivial."""
    decoding = Decoding(temperature=1.0)
    questions = TASK.problems("train", branches // 4, 0)
    length = 48 if name == "mini" else 16
    return [
        Request((Message(role="user", content=question),), "", length, seed, ("\n",), decoding)
        for seed, question in enumerate(question for question in questions for _ in range(4))
    ]


def _rounds(
    policy: RemotePolicy, url: str, requests: Sequence[Request], rounds: int
) -> dict[str, list[float]]:
    server = policy.probe()
    batch = Batch(policy.client, server, requests)

    async def bodies() -> list[dict[str, Any]]:
        return [server.dialect.body(await batch.ask(request))[1] for request in requests]

    sent = loop.run(bodies())

    def ours() -> int:
        return sum(one.tokens for one in policy.generate(requests))

    async def load(clients: Sequence[httpx.AsyncClient]) -> int:
        pairs = zip(itertools.cycle(clients), sent, strict=False)
        found = await asyncio.gather(*(one.post(f"{url}/completion", json=body) for one, body in pairs))
        return sum(int(one.json()["tokens_predicted"]) for one in found)

    with asyncio.Runner() as runner:
        limits = httpx.Limits(max_keepalive_connections=len(sent))
        clients = [httpx.AsyncClient(timeout=600, limits=limits) for _ in range(9)]
        ways: dict[str, Callable[[], int]] = {
            "ours": ours,
            "bare": lambda: runner.run(load(clients[:1])),
            "bare, eight clients": lambda: runner.run(load(clients[1:])),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        spent = dict.fromkeys(ways, 0.0)
        for way in ways.values():
            way()
        for number in range(rounds):
            for name in sorted(ways, reverse=number % 2 == 1):
                began, started = time.process_time(), time.perf_counter()
                rates[name].append(ways[name]() / (time.perf_counter() - started))
                spent[name] += (time.process_time() - began) / rounds
        for client in clients:
            runner.run(client.aclose())
    for name, each in rates.items():
        middle = statistics.median(each)
        print(f"{name}: {middle:.0f} tokens/s; this process computed {1000 * spent[name]:.0f} ms a round")
    return {
        name: sorted(round(one / other, 3) for one, other in zip(rates["ours"], each, strict=True))
        for name, each in rates.items()
        if name != "ours"
    }


def faults(searches: int, seed: int, threads: int = 8) -> None:
    """Print what became of searches under faults."""
    problems = TASK.sample("test", searches, seed)
    if len(problems) < searches:
        problems = (problems * searches)[:searches]
    with serving("llama.cpp", slots=threads) as url, spoiling(url, seed=seed, stalls=8.0) as proxy:
        with ThreadPoolExecutor(threads) as pool:
            parts = pool.map(lambda one: _suffer(proxy, one, problems[one::threads]), range(threads))
            rows = [row for part in parts for row in part]
        print(f"{len(rows)} searches, {sum(row['lost'] for row in rows)} lost")
        print(f"beyond the budget: {sum(row['tokens'] > TOKENS for row in rows)}")
        print(f"tokens other than the proxy's book: {sum(row['tokens'] != row['booked'] for row in rows)}")
        longest = max(row["seconds"] for row in rows)
        share = max(row["seconds"] / row["allowed"] for row in rows)
        print(f"right answers: {sum(row['right'] for row in rows)}")
        print(f"longest: {longest:.1f} s; at most {share:.3f} of what its calls may take")
        print(f"answers let through and spoilt: {dict(proxy.faults)}")


PATIENCE = Patience(attempt=4.0, total=120.0, tries=16)


def _suffer(proxy: Proxy, index: int, problems: Sequence[Any]) -> list[dict[str, Any]]:
    """One client's searches, one after the other, and what the proxy booked for each."""
    policy = RemotePolicy(f"{proxy.url}/v1?client={index}#task=countdown", patience=PATIENCE)
    rows = []
    for problem in problems:
        before = proxy.books[str(index)].tokens if str(index) in proxy.books else 0
        started = time.monotonic()
        row: dict[str, Any] = {"lost": False, "tokens": 0, "right": False, "calls": 1}
        try:
            found = _solve("mcts", policy, problem, {})
            row |= {
                "tokens": found.completion_tokens,
                "right": bool(found.verified),
                "calls": found.model_calls,
            }
        except Exception as error:  # noqa: BLE001  whatever it is, the search is lost
            print(f"lost: {type(error).__name__}: {error}")
            row["lost"] = True
        seconds = time.monotonic() - started
        booked = proxy.books[str(index)].tokens - before
        rows.append(row | {"seconds": seconds, "booked": booked, "allowed": row["calls"] * PATIENCE.total})
    policy.close()
    return rows


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("answers")
    one.add_argument("--n", type=int, default=100)
    two = commands.add_parser("throughput")
    two.add_argument("--model", choices=["mini", *SIZES], default="mini")
    two.add_argument("--branches", type=int, default=64)
    two.add_argument("--rounds", type=int, default=7)
    three = commands.add_parser("faults")
    three.add_argument("--searches", type=int, default=500)
    three.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.command == "answers":
        answers(given.n)
    elif given.command == "throughput":
        throughput(given.model, given.branches, given.rounds)
    else:
        faults(given.searches, given.seed)


if __name__ == "__main__":
    main()
