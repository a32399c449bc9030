"""A client that leaves takes its search with it; others are not harmed."""

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any

import httpx
import pytest

from rlm_agent import FakePolicy
from rlm_agent.models.resolve import load_policy
from rlm_agent.serve.limits import Limits
from tests.serve.conftest import until

ENDLESS = {
    "model": "mcts:mini",
    "messages": [{"role": "user", "content": "3 7 11 13 50 : 517"}],
    "max_tokens": 100_000,
    "rlm": {"parameters": {"stop_when_verified": False}},
}
"""A search of half a minute."""


def searches(url: str) -> int:
    return int(httpx.get(f"{url}/health").json()["searches_running"])


def waiting(url: str) -> int:
    return int(httpx.get(f"{url}/health").json()["searches_waiting"])


def post(url: str, path: str, body: dict[str, Any]) -> socket.socket:
    """A request on a connection of its own, which can be closed at any moment."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    content = json.dumps(body).encode()
    headers = f"Host: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    connection.sendall(f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + content)
    return connection


def counted(url: str, metric: str) -> float:
    lines = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if line.startswith(metric)]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0


@pytest.mark.parametrize("way", ["at once", "stream", "thoughts", "responses"])
def test_search_stops_within_a_second(mini: str, way: str) -> None:
    body = {**ENDLESS, "stream": way != "at once"}
    path = "/v1/chat/completions"
    if way == "thoughts":
        body["rlm"] = {**ENDLESS["rlm"], "thoughts": True}  # type: ignore[dict-item]
    if way == "responses":
        path = "/v1/responses"
        body["input"], body["max_output_tokens"] = body.pop("messages"), body.pop("max_tokens")
    cancelled = 'rlm_searches_total{ended="cancelled",model="mcts:mini"}'
    before = counted(mini, cancelled)
    connection = post(mini, path, body)
    until(lambda: searches(mini) == 1)
    connection.close()
    assert until(lambda: searches(mini) == 0) < 1.0
    assert counted(mini, cancelled) == before + 1
    engine = load_policy("mini").engine  # type: ignore[attr-defined]
    decoded = engine.decoded
    assert httpx.get(f"{mini}/health").json()["searches_running"] == 0
    assert engine.decoded - decoded < 64  # at most the batch that was under way


def test_tokens_of_a_search_that_was_broken_off_are_counted(mini: str) -> None:
    spent = 'rlm_tokens_total{kind="completion",model="mcts:mini"}'
    before = counted(mini, spent)
    connection = post(mini, "/v1/chat/completions", ENDLESS)
    until(lambda: searches(mini) == 1)
    httpx.post(f"{mini}/v1/chat/completions", json={**ENDLESS, "model": "chain:mini"}, timeout=30)
    connection.close()
    until(lambda: searches(mini) == 0)
    assert counted(mini, spent) > before


def test_others_go_on(mini: str) -> None:
    connection = post(mini, "/v1/chat/completions", {**ENDLESS, "stream": True})
    until(lambda: searches(mini) == 1)
    asked = {"model": "mcts:mini", "messages": [{"role": "user", "content": "4 9 10 13 : 24"}], "seed": 7}
    with httpx.Client(base_url=mini, timeout=60) as client:
        beside = client.post("/v1/chat/completions", json=asked).json()
        connection.close()
        alone = client.post("/v1/chat/completions", json=asked).json()
    assert beside["choices"][0]["message"] == alone["choices"][0]["message"]


def test_client_that_leaves_within_its_body_has_left(mini: str) -> None:
    left = 'rlm_requests_total{route="/v1/chat/completions",status="499"}'
    before = counted(mini, left)
    with socket.create_connection(("127.0.0.1", int(mini.rpartition(":")[2]))) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
    until(lambda: counted(mini, left) == before + 1)


class Stuck(FakePolicy):
    """A model that never replies; it notes how many are waiting for it."""

    def __init__(self) -> None:
        super().__init__(lambda question, prefix: [("x", 0.0)])
        self.waiting = 0

    async def agenerate(self, requests: Any) -> Any:
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_leaves_the_queue_is_forgotten(serve: Any, stream: bool) -> None:
    policy = Stuck()
    url = serve({"stuck": policy}, "chain", limits=Limits(concurrency=1, keep_alive=0.05))
    body = {"model": "stuck", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    first, second = (post(url, "/v1/chat/completions", body) for _ in range(2))
    until(lambda: waiting(url) == 1 and searches(url) == 1)
    second.close()
    until(lambda: waiting(url) == 0)
    assert policy.waiting == 1
    first.close()
    assert until(lambda: searches(url) == 0) < 1.0
    assert policy.waiting == 0


def test_model_that_does_not_reply_ends_by_the_time_limit(serve: Any) -> None:
    url = serve({"stuck": Stuck()}, "chain", limits=Limits(max_seconds=0.2))
    body = {"model": "stuck", "messages": [{"role": "user", "content": "x"}]}
    choice = httpx.post(f"{url}/v1/chat/completions", json=body).json()["choices"][0]
    assert (choice["finish_reason"], choice["rlm"]["stopped"]) == ("length", "seconds")


class Stubborn(Stuck):
    """A model that cannot be told to stop, the first time."""

    async def agenerate(self, requests: Any) -> Any:
        with suppress(asyncio.CancelledError):
            await super().agenerate(requests)
        return await super().agenerate(requests)


def test_model_that_does_not_stop_is_a_timeout(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm_agent.serve.searching._SLACK", 0.1)
    url = serve({"stuck": Stubborn()}, "chain", limits=Limits(max_seconds=0.2))
    body = {"model": "stuck", "messages": [{"role": "user", "content": "x"}]}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "timeout")
