"""What watching a search costs: how soon the first event comes, and what the events take.

    python benchmarks/streaming.py [RUNS]    # 60 by default

The first table has milliseconds from the call to the first event of a search by `mini`, which is loaded but
has forgotten the question, over so many runs, each of another seed: median and 95th percentile.

The second has microseconds of processor time for each event, and how many events a second that allows: what a
scripted search of 600 thoughts takes longer with a listener than with none, medians of nine runs by turns.
Each run without a listener is compared with the next one, too (`nobody`): as far as that is from 0, the
figures are noise.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from rlm_agent import Budget, FakePolicy, FakeValue, GGUFPolicy, Steps, create_best_of_n, create_mcts
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.models.fake import Reply
from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.models.resolve import load_policy

QUESTION: dict[str, Any] = {"messages": [("user", "4 9 10 13 : 24")]}
MODES = ("custom", "messages", "updates")
REPEATS = 9


def soon(reasoner: Reasoner, mode: Any) -> float:
    """Seconds to the first event; the search is left then."""
    started = time.perf_counter()
    events = reasoner.stream(QUESTION, stream_mode=mode)
    next(events)
    seconds = time.perf_counter() - started
    events.close()  # type: ignore[attr-defined]
    return seconds


def asoon(reasoner: Reasoner, mode: Any) -> float:
    """See `soon`."""

    async def watch() -> float:
        started = time.perf_counter()
        events: Any = reasoner.astream(QUESTION, stream_mode=mode)
        await anext(events)
        seconds = time.perf_counter() - started
        await events.aclose()
        return seconds

    return asyncio.run(watch())


def first_events(runs: int) -> None:
    """Print a row for each search and each kind of stream."""
    policy = load_policy("mini")
    assert isinstance(policy, GGUFPolicy)
    print("first event, ms".ljust(34), f"{'median':>9}{'p95':>9}")
    for name, watch in (("sync", soon), ("async", asoon)):
        for mode in MODES:
            for strategy in ("mcts", "best_of_n, 16 at once"):
                seconds = []
                for seed in range(runs):
                    reasoner = (
                        create_mcts(policy, seed=seed, value="head")
                        if strategy == "mcts"
                        else create_best_of_n(policy, seed=seed, n=16, parallel=16)
                    )
                    policy.engine.complete([Job((1,), 1)])  # behind it, what was left is out of the batch
                    policy.engine.forget()
                    seconds.append(watch(reasoner, mode))
                *_, late = statistics.quantiles(seconds, n=20, method="inclusive")
                label = f"{strategy}, {name}, {mode}".ljust(34)
                print(label, f"{1000 * statistics.median(seconds):>9.1f}{1000 * late:>9.1f}", flush=True)


def script(question: str, prefix: str) -> Sequence[Reply]:
    """Twelve ways on from everywhere, and now and then an end."""
    depth = prefix.count("\n")
    return [(f"step {number} of {depth}", -1.0, depth > 5 and number == 0) for number in range(12)]


def spent(modes: Sequence[str]) -> tuple[float, int]:
    """Processor time of a scripted search, and how many events it told."""
    policy, value, limits = FakePolicy(script), FakeValue(lambda steps: 0.5), {"recursion_limit": 10**6}
    reasoner: Any = create_mcts(policy, value=value, seed=1, budget=Budget(nodes=600), steps=Steps())
    started, count = time.process_time(), 0
    if modes:
        count = len([*reasoner.stream(QUESTION, limits, stream_mode=[*modes])])
    else:
        reasoner.invoke(QUESTION, limits)
    return time.process_time() - started, count


def event_costs() -> None:
    """Print a row for each kind of listener."""
    print("\na listener".ljust(35), f"{'events':>9}{'µs each':>9}{'a second':>10}{'ms in all':>10}")
    for modes in ((), ("custom",), ("messages",), ("updates",), ("custom", "messages")):
        pairs = [(spent(())[0], *spent(modes)) for _ in range(REPEATS)]
        more = statistics.median(seconds - alone for alone, seconds, _ in pairs)
        count = pairs[0][2]
        each = f"{1e6 * more / count:>9.0f}{count / more:>10,.0f}" if count else " " * 19
        whole = 1000 * statistics.median(alone for alone, _, _ in pairs)
        print(
            (" + ".join(modes) or "nobody").ljust(34), f"{count:>9}{each}{1000 * more:>10.1f}  of {whole:.0f}"
        )


if __name__ == "__main__":
    event_costs()
    first_events(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
