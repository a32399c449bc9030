"""The connections to a server.

httpx looks at all its connections for each request that begins or ends, which with 64 of them costs more than
the request. Over HTTP/1.1 there are therefore several small pools; over HTTP/2 one connection bears all.
"""

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import httpx

from rlm_agent.models.remote.address import Address
from rlm_agent.models.remote.loop import close_with

_SMALL = 8


class Pools:
    """httpx clients of one address for up to `most` requests at once; closed with their owner."""

    def __init__(self, address: Address, *, connect: float, verify: ssl.SSLContext | bool, most: int) -> None:
        safe = address.url.startswith("https:")
        http2 = safe and find_spec("h2") is not None
        if http2:
            # Its messages for debugging spell out the header that holds the key.
            logging.getLogger("hpack").setLevel(logging.INFO)
        count = 1 if http2 else -(-most // _SMALL)
        context = httpx.create_ssl_context(verify) if safe else httpx.create_ssl_context(verify=False)
        self._running = [0] * count
        self._clients = [
            httpx.AsyncClient(
                headers=_headers(address),
                http2=http2,
                verify=context,
                timeout=httpx.Timeout(None, connect=connect),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=-(-most // count)),
            )
            for _ in range(count)
        ]
        for client in self._clients:
            close_with(self, client.aclose)

    @contextmanager
    def one(self) -> Iterator[httpx.AsyncClient]:
        """The client with the least to do, for one request."""
        index = self._running.index(min(self._running))
        self._running[index] += 1
        try:
            yield self._clients[index]
        finally:
            self._running[index] -= 1

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()


def _headers(address: Address) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if address.key is not None:
        headers["authorization"] = f"Bearer {address.key.get_secret_value()}"
    return headers
