"""Searches killed at random moments: what was lost, what was asked twice, and whether the end is the same.

    python -m benchmarks.kills [--runs 200] [--saver sqlite|buffered|postgres] [--seed 0] [--scene NAME ...]

Each run kills a seeded search by SIGKILL and goes on with it in a new process; `tests/graphs/killing.py` says
how that is judged. A line a run: how far it had come and what was stored, in supersteps, and how many calls
that had not been stored were made a second time. Ends with 1 where anything was wrong. Postgres is a
throw-away server unless `RLM_TEST_POSTGRES` names one.
"""

import argparse
import sys
import tempfile
import uuid
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.graphs.killing import BUFFERED, SCENES, fates
from tests.postgres import postgres


def main() -> int:
    """Run, tell, and count what was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--saver", choices=["sqlite", "buffered", "postgres"], default="sqlite")
    parser.add_argument("--seed", type=int, default=uuid.uuid4().int % 10**6)
    parser.add_argument("--scene", nargs="*", default=list(SCENES), choices=SCENES)
    given = parser.parse_args()
    wrong, behind = 0, Counter[str]()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store = str(Path(folder) / "threads.db")
        if given.saver == "buffered":
            store = BUFFERED + store
        elif given.saver == "postgres":
            store = stack.enter_context(postgres())
        for number, (job, fate) in enumerate(fates(store, folder, given.runs, given.seed, given.scene), 1):
            way = f"{'async' if job.in_tasks else 'plain'}, durability {job.durability}"
            print(
                f"{number:4} {job.scene:18} {way:24} killed after {fate.after:5.2f} s in superstep "
                f"{fate.reached:3}, {fate.stored:3} stored, {fate.repeated:3} calls again:",
                "; ".join(fate.faults) or "the same",
                flush=True,
            )
            wrong += bool(fate.faults)
            behind[way] = max(behind[way], fate.reached - fate.stored)
    print(f"{given.runs} kills on {given.saver}, seed {given.seed}: {wrong} wrong")
    for way, most in behind.items():
        print(f"{way}: stored at most {most} supersteps behind")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
