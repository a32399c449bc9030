"""Who may ask, and how much in a minute. Keys are kept as digests and are in no message."""

import hashlib
import hmac
import math
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_agent.structure.errors import InputError

_SHORTEST = 16
_BEARER = "bearer "
_FIELDS = {"key", "requests_per_minute", "tokens_per_minute"}


class Bucket:
    """An allowance that refills evenly, `a_minute` in a minute and no more than that; None is unbounded.

    It may go into debt, because what a search takes is known when it is over.
    """

    def __init__(self, a_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._full = math.inf if a_minute is None else a_minute
        self._level = self._full
        self._clock = clock
        self._seen = clock()

    def wait(self, amount: float) -> float:
        """Seconds until there is so much, or until it is full where it never holds that: 0 for now."""
        self._refill()
        lacking = min(amount, self._full) - self._level
        return lacking / self._full * 60 if lacking > 0 else 0.0

    def take(self, amount: float) -> None:
        """Take so much out; a negative amount is given back."""
        self._refill()
        self._level = min(self._full, self._level - amount)

    def _refill(self) -> None:
        now = self._clock()
        if self._full < math.inf:
            self._level = min(self._full, self._level + (now - self._seen) / 60 * self._full)
        self._seen = now


@dataclass(frozen=True, slots=True)
class Client:
    """One who may ask: a name for the log, and what is left of the requests and the tokens of this minute."""

    name: str
    requests: Bucket
    tokens: Bucket


class Keyring:
    """The keys that open the server; without any, all who reach it may ask."""

    def __init__(self) -> None:
        self._clients: dict[bytes, Client] = {}
        self._anybody = Client("anybody", Bucket(None), Bucket(None))

    def __bool__(self) -> bool:
        return bool(self._clients)

    def add(
        self,
        name: str,
        key: str,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        """Let a key open the server. Raises `InputError` for a key that is short, odd or known already."""
        if len(key) < _SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
            raise InputError(
                f"the key of {name!r} is too short or has odd letters; use at least {_SHORTEST} ASCII letters"
            )
        for bound in (requests_per_minute, tokens_per_minute):
            number = isinstance(bound, int | float) and not isinstance(bound, bool)
            if bound is not None and not (number and bound > 0):
                raise InputError(
                    f"{name!r} may do {bound!r} a minute; give a number above 0, or leave it out"
                )
        digest = _digest(key)
        if digest in self._clients:
            raise InputError(f"{name!r} and {self._clients[digest].name!r} have one key; give each its own")
        self._clients[digest] = Client(name, Bucket(requests_per_minute), Bucket(tokens_per_minute))

    def find(self, authorization: str | None) -> Client | None:
        """Whose key stands in an `Authorization` header, None for nobody's; in constant time."""
        if not self._clients:
            return self._anybody
        header = authorization or ""
        bearer = header[: len(_BEARER)].lower() == _BEARER
        given = _digest(header[len(_BEARER) :].strip() if bearer else "")
        found = None
        for digest, client in self._clients.items():
            if hmac.compare_digest(digest, given):
                found = client
        return found


def read_keys(keys: Iterable[str] = (), file: Path | None = None) -> Keyring:
    """The keys themselves, without limits, and those of a TOML file, where each has a table of its own:

        [alice]
        key = "…"
        requests_per_minute = 60
        tokens_per_minute = 100000

    Raises `InputError` where the file cannot be read, and for keys that cannot be used.
    """
    ring = Keyring()
    for number, key in enumerate(keys, 1):
        ring.add(f"key {number}", key)
    for name, entry in ({} if file is None else _tables(file)).items():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("key"), str) or set(entry) - _FIELDS:
            raise InputError(
                f"[{name}] in {file} is no key; give key, requests_per_minute, tokens_per_minute"
            )
        ring.add(name, **entry)
    return ring


def _tables(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        # TOML's own complaint would quote the line, and a key with it.
        raise InputError(
            f"{file} holds no keys that can be read ({type(error).__name__}); write TOML"
        ) from None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="replace")).digest()
