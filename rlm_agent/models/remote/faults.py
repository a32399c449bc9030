"""What can go wrong between here and a server: what is worth another try, and how long to wait for it."""

import json
import random
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tenacity import RetryCallState

from rlm_agent.models.remote.address import Address
from rlm_agent.structure.errors import AccessError, InputError, PromptTooLongError, RlmError, ServerError

AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529))
"""Answers after which the same request may well succeed."""

CROWDED = frozenset((429, 503, 529))
_FIRST_WAIT, _LONGEST_WAIT, _LONGEST_ASKED = 0.1, 8.0, 60.0
_TOO_LONG = re.compile(
    r"exceed_context_size|context_length_exceeded|maximum context length|context window|too many tokens|"
    r"longer than the maximum|exceeds the available context",
    re.IGNORECASE,
)
_SHOWN = 200


class Fleeting(Exception):
    """A fault that another try may not meet; the server asks to wait for `after` seconds."""

    def __init__(self, reason: str, *, after: float | None = None, crowded: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.crowded = crowded


def fault_of(address: Address, response: httpx.Response, body: bytes) -> Exception:
    """What an answer other than 200 amounts to: a `Fleeting` one, or what is raised for good."""
    status, said = response.status_code, _said(body, address)
    if status in AGAIN:
        wait = after(response.headers.get("retry-after"))
        return Fleeting(f"{status} {said}".strip(), after=wait, crowded=status in CROWDED)
    return _lasting(address, status, said, response)


def _lasting(address: Address, status: int, said: str, response: httpx.Response) -> RlmError:
    shown = address.shown
    if status in (401, 403):
        told = "the key that it was given" if address.key is not None else "a request without a key"
        return AccessError(f"{shown} refuses {told} ({status}); set RLM_API_KEY or api_key to a right one")
    if status == 404:
        return AccessError(f"{shown} has no such place or model (404: {said}); check the URL and the model")
    if 300 <= status < 400:
        target = httpx.URL(response.headers.get("location", "")).host
        return ServerError(f"{shown} sends elsewhere ({status}, {target!r}); give the URL that it names")
    if _TOO_LONG.search(said):
        return PromptTooLongError(f"the prompt is too long for {shown} ({said}); shorten the question")
    if status == 413:
        return InputError(f"the request is too large for {shown} (413); shorten the question")
    return ServerError(f"{shown} refuses the request ({status}: {said}); check what it supports")


def transport_fault(address: Address, error: Exception) -> Exception:
    """What an exception of httpx amounts to."""
    text = f"{type(error).__name__}: {error}"
    if "CERTIFICATE" in text or "SSL" in text or "WRONG_VERSION" in text:
        return ServerError(
            f"no safe connection to {address.shown} can be made ({text[:_SHOWN]}); check https and the "
            "certificate"
        )
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL | httpx.LocalProtocolError):
        return ServerError(f"{address.shown} cannot be asked ({text[:_SHOWN]}); check the URL")
    return Fleeting(text[:_SHOWN])


def after(header: str | None) -> float | None:
    """The seconds that `Retry-After` asks for, a number or a date, never more than a minute."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), _LONGEST_ASKED) if seconds == seconds else None


def pause(state: RetryCallState) -> float:
    """How long to wait before the next try: as the server asks, or twice as long each time; with jitter.

    Full jitter, as Amazon's "Exponential Backoff and Jitter" has it, so that siblings that failed together do
    not come back together.
    """
    error = state.outcome.exception() if state.outcome is not None else None
    longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**state.attempt_number)
    asked = error.after if isinstance(error, Fleeting) else None
    drawn = random.uniform(0, longest)
    return drawn if asked is None else asked + min(drawn, 1.0)


def _said(body: bytes, address: Address) -> str:
    """What the server says of its error, short, and without the key if it should repeat it."""
    text = body[:4000].decode(errors="replace")
    try:
        read: Any = json.loads(body)
        error = read.get("error", read) if isinstance(read, dict) else read
        if isinstance(error, dict):
            parts = (error.get("type"), error.get("code"), error.get("message") or error.get("detail"))
            text = " ".join(str(part) for part in parts if part)
    except ValueError:
        pass
    if address.key is not None:
        text = text.replace(address.key.get_secret_value(), "…")
    return " ".join(text.split())[:_SHOWN]
