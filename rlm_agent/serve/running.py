"""Running an app until it is told to stop."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

from rlm_agent.serve.limits import Limits
from rlm_agent.structure.errors import InputError

_BACKLOG = 2048


class Server(uvicorn.Server):
    """A server that says when it can be asked.

    The first Ctrl-C lets no more requests in and waits for those under way, as long as a search may take; the
    second one stops them.
    """

    def __init__(self, app: ASGIApp, limits: Limits, ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=int(limits.max_seconds) + 10,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._ready()


@contextmanager
def in_background(app: ASGIApp, limits: Limits | None = None) -> Iterator[str]:
    """The URL of a server in a thread of this process, which drains and ends with the context.

    Raises `InputError` where it does not come up.
    """
    ready, listening = threading.Event(), listen("127.0.0.1", 0)
    server = Server(app, limits or Limits(), ready.set)

    def run() -> None:
        try:
            with suppress(SystemExit):  # how uvicorn ends where the app does not start
                server.run([listening])
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="rlm-agent serve")
    thread.start()
    ready.wait()
    if not server.started:
        thread.join()
        listening.close()
        raise InputError("the server did not start; its log says why")
    try:
        yield url_of(listening)
    finally:
        server.should_exit = True
        thread.join()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, port 0 for any that is free. Raises `InputError` where that cannot be."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"the server cannot listen at {host}:{port} ({error}); choose another port"
        ) from error


def url_of(listening: socket.socket) -> str:
    """Where clients reach it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
