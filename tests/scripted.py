"""A server that answers as a script says; for dialects of servers that cannot be run here."""

import json
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Body = Any
"""JSON, bytes as they are, or an iterable of JSON as events."""


@dataclass
class Asked:
    """One request: its path, its headers in lower case, and its JSON."""

    path: str
    headers: dict[str, str]
    body: Any


Script = Callable[[Asked], tuple[int, Body] | tuple[int, Body, dict[str, str]]]


@dataclass
class Scripted:
    """A running server: its URL and what it was asked, in order."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def bodies(self, path: str) -> list[Any]:
        """What was sent to a path."""
        return [one.body for one in self.asked if one.path == path]


@contextmanager
def scripted(script: Script, certificate: tuple[Path, Path] | None = None) -> Iterator[Scripted]:
    """A server on a loopback port as long as the context lasts."""
    running = Scripted()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(running, script))
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if certificate else "http"
    running.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(running: Scripted, script: Script) -> type[BaseHTTPRequestHandler]:
    """What answers by a script and keeps what it was asked."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.path, headers, json.loads(raw) if raw else None)
            with lock:
                running.asked.append(asked)
            status, body, *rest = script(asked)
            self._say(status, body, rest[0] if rest else {})

        def _say(self, status: int, body: Body, headers: dict[str, str]) -> None:
            streams = isinstance(body, Iterable) and not isinstance(body, bytes | dict | str | list)
            data = body if isinstance(body, bytes) else b"" if streams else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if streams:
                self.send_header("connection", "close")
                self.end_headers()
                self.close_connection = True
                self._tell(body)
                return
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _tell(self, events: Iterable[Any]) -> None:
            try:
                for event in events:
                    text = event if isinstance(event, str) else json.dumps(event)
                    self.wfile.write(f"data: {text}\n\n".encode())
                    self.wfile.flush()
            except OSError:
                running.asked.append(Asked("(left)", {}, None))

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
