"""Names and random numbers that depend on nothing but where they stand, so that a resumed or repeated
search meets the same ones: ids derive from (parent, index), seeds from (seed, counter)."""

import hashlib
from functools import lru_cache


def root_id(turn: int) -> str:
    """The id of the root thought of a conversation's `turn`-th question, counted from 1."""
    return _digest(f"turn/{turn}")


@lru_cache(maxsize=1 << 17)
def child_id(parent: str, index: int) -> str:
    """The id of the `index`-th child (from 0) of a thought: twelve hexadecimal digits."""
    return _digest(f"{parent}/{index}")


def fingerprint(*parts: object) -> str:
    """Twelve hexadecimal digits that tell apart what differs in a part, by its text."""
    return _digest(repr([str(part) for part in parts]))


def derive_seed(seed: int, *counter: str | int) -> int:
    """A 63-bit seed for the draw that `counter` names in the run seeded with `seed`."""
    text = "/".join(map(str, (seed, *counter)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
