"""What every request passes first: its size, its key, where it comes from; and what is counted of it."""

import asyncio
import ipaddress
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlm_agent.serve.faults import Fault, client_left, response_of
from rlm_agent.serve.keys import Client, Keyring
from rlm_agent.serve.metrics import Metrics

_OPEN = ("/health", "/openapi.json")
_LEFT = 499
_CLIENT = "rlm_client"


class Guard:
    """An app behind checks that need no body.

    Without keys, requests have to name this machine as their host, so that no web page can reach the server
    through a name of its own that points here.
    """

    def __init__(
        self, app: ASGIApp, keyring: Keyring, metrics: Metrics, *, max_body: int, patience: float
    ) -> None:
        self.app = app
        self._keyring = keyring
        self._metrics = metrics
        self._max_body = max_body
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), _LEFT

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            headers = Headers(scope=scope)
            fault = self._refusal(scope, headers)
            answer = self.app if fault is None else response_of(fault)
            await answer(scope, self._bounded(receive), noted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(route, status, time.monotonic() - started)

    def _refusal(self, scope: Scope, headers: Headers) -> Fault | None:
        if scope["path"] not in _OPEN:
            client = self._keyring.find(headers.get("authorization"))
            if client is None:
                return Fault(
                    401,
                    "there is no such key; send one as 'Authorization: Bearer KEY'",
                    code="invalid_api_key",
                )
            scope.setdefault("state", {})[_CLIENT] = client
        if not self._keyring and not is_loopback(_host(headers.get("host", ""))):
            return Fault(403, "without keys, this server answers to localhost alone", code="unknown_host")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._max_body:
            return self._too_large()
        return None

    def _bounded(self, receive: Receive) -> Receive:
        """For bodies that do not say how long they are, or do not come."""
        read, ended, deadline = 0, False, asyncio.get_running_loop().time() + self._patience

        async def received() -> Message:
            nonlocal read, ended
            try:
                async with asyncio.timeout_at(None if ended else deadline):
                    message = await receive()
            except TimeoutError:
                raise Fault(408, "the body did not come in time; send it again", code="timeout") from None
            if message["type"] == "http.disconnect" and not ended:
                raise client_left()
            ended = not message.get("more_body", False)
            read += len(message.get("body", b""))
            if read > self._max_body:
                raise self._too_large()
            return message

        return received

    def _too_large(self) -> Fault:
        return Fault(413, f"the body has more than {self._max_body} bytes; send less", code="body_too_large")


def client_of(scope: Scope) -> Client:
    """Who asks."""
    client: Client = scope["state"][_CLIENT]
    return client


def is_loopback(host: str) -> bool:
    """Whether a name or an address, an IPv6 one with or without brackets, is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host(header: str) -> str:
    """A `Host` header without its port."""
    name, colon, port = header.rpartition(":")
    return (name if colon and port.isdecimal() else header).lower()
