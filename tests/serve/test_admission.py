"""Who is let in, and how much in a minute."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.serve.admission import Deposit, Gate
from rlm_agent.serve.faults import Fault
from rlm_agent.serve.keys import Bucket, Client, Keyring, read_keys
from rlm_agent.serve.limits import Limits
from rlm_agent.structure.errors import InputError
from tests.serve.conftest import until
from tests.serve.test_leaving import Stuck, post, searches, waiting

KEY, OTHER = "k" * 16, "another-key-that-opens"
ASKED = {"model": "mini", "messages": [{"role": "user", "content": "4 9 10 13 : 24"}]}
STUCK = {"model": "stuck", "messages": [{"role": "user", "content": "x"}]}


@given(
    a_minute=st.integers(1, 1000),
    events=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 300)), max_size=60),
)
def test_no_more_is_taken_than_was_full_and_has_flown_in(
    a_minute: int, events: list[tuple[float, int]]
) -> None:
    now = 0.0
    bucket = Bucket(a_minute, lambda: now)
    taken = 0
    for pause, amount in events:
        now += pause
        wait = bucket.wait(amount)
        if wait:
            now += wait + 1e-6
            assert bucket.wait(amount) == 0
        bucket.take(min(amount, a_minute))
        taken += min(amount, a_minute)
        assert taken <= a_minute * (1 + now / 60) + 1e-3


def test_idling_saves_nothing_up() -> None:
    now = 0.0
    bucket = Bucket(60, lambda: now)
    now = 6000.0
    bucket.take(60)
    assert bucket.wait(1) == pytest.approx(1)


def test_debt_is_paid_back_by_waiting() -> None:
    now = 0.0
    bucket = Bucket(60, lambda: now)
    bucket.take(90)
    assert bucket.wait(1) == pytest.approx(31)
    now = 31
    assert bucket.wait(1) == 0
    bucket.take(-1000)
    assert bucket.wait(60) == 0 and bucket.wait(10**9) == 0


def test_deposit_gives_back_what_was_not_used() -> None:
    client = Client("x", Bucket(None), Bucket(1000))
    first = Deposit(client, 800)
    with pytest.raises(Fault, match="tokens of this minute") as refusal:
        Deposit(client, 800)
    assert 1 <= int((refusal.value.headers or {})["Retry-After"]) <= 36
    first.settle(100)
    Deposit(client, 800)


def test_larger_budget_than_a_minute_holds_waits_for_a_full_minute_only() -> None:
    client = Client("x", Bucket(None), Bucket(1000))
    Deposit(client, 5000).settle(200)
    with pytest.raises(Fault):
        Deposit(client, 5000)
    assert client.tokens.wait(800) == pytest.approx(0, abs=0.1)


async def test_gate_lets_so_many_run_in_the_order_of_their_coming() -> None:
    gate, order, most = Gate(Limits(concurrency=3, queue=100)), list[int](), 0

    async def search(number: int) -> None:
        nonlocal most
        async with gate.pass_through():
            order.append(number)
            most = max(most, gate.running)
            await asyncio.sleep(0.001)

    await asyncio.gather(*map(search, range(50)))
    assert order == list(range(50))
    assert (most, gate.running, gate.waiting) == (3, 0, 0)


async def test_gate_is_as_it_was_after_any_who_were_cancelled() -> None:
    gate = Gate(Limits(concurrency=2, queue=100))

    async def search() -> None:
        async with gate.pass_through():
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(search()) for _ in range(20)]
    await asyncio.sleep(0.005)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (gate.running, gate.waiting) == (0, 0)
    await asyncio.gather(search(), search())


def test_one_too_many_is_told_when_to_come_back(serve: Any) -> None:
    url = serve({"stuck": Stuck()}, "chain", limits=Limits(concurrency=1, queue=1))
    held = [post(url, "/v1/chat/completions", STUCK) for _ in range(2)]
    until(lambda: (searches(url), waiting(url)) == (1, 1))
    for stream in (False, True):
        reply = httpx.post(f"{url}/v1/chat/completions", json={**STUCK, "stream": stream})
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "server_busy")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
    for connection in held:
        connection.close()
    until(lambda: searches(url) == 0)


async def test_waiting_has_an_end() -> None:
    gate = Gate(Limits(concurrency=1, max_seconds=0.05))
    async with gate.pass_through():
        with pytest.raises(Fault, match="busy"):
            async with gate.pass_through():
                pass
    async with gate.pass_through():
        assert (gate.running, gate.waiting) == (1, 0)


@pytest.fixture
def keyed(serve: Any) -> httpx.Client:
    ring = Keyring()
    ring.add("alice", KEY)
    ring.add("bob", OTHER, requests_per_minute=2, tokens_per_minute=6000)
    return httpx.Client(base_url=serve({"mini": "mini"}, "chain", keyring=ring))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        bearer("k" * 15),
        bearer("k" * 17),
    ],
)
def test_nobody_enters_without_a_key(keyed: httpx.Client, header: dict[str, str]) -> None:
    with keyed:
        for path in ("/v1/models", "/v1/models/mini", "/metrics", "/v1/nothing"):
            assert keyed.get(path, headers=header).status_code == 401
        reply = keyed.post("/v1/chat/completions", content=b"{", headers=header)
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert keyed.get("/health").status_code == keyed.get("/openapi.json").status_code == 200


def test_key_opens_and_is_in_no_answer(keyed: httpx.Client) -> None:
    with keyed:
        assert keyed.post("/v1/chat/completions", json=ASKED, headers=bearer(KEY)).status_code == 200
        assert keyed.get("/v1/models", headers={"authorization": f"bearer  {KEY}"}).status_code == 200
        assert KEY not in keyed.get("/metrics", headers=bearer(KEY)).text


def test_each_key_has_its_own_minute(keyed: httpx.Client) -> None:
    with keyed:
        statuses = [
            keyed.post("/v1/chat/completions", json=ASKED, headers=bearer(OTHER)).status_code
            for _ in range(3)
        ]
        assert statuses == [200, 200, 429]
        assert keyed.post("/v1/chat/completions", json=ASKED, headers=bearer(KEY)).status_code == 200
        assert keyed.get("/v1/models", headers=bearer(OTHER)).status_code == 200


def test_tokens_of_a_minute_are_kept(keyed: httpx.Client) -> None:
    with keyed:
        large = {**ASKED, "max_tokens": 6000}
        assert keyed.post("/v1/chat/completions", json=large, headers=bearer(OTHER)).status_code == 200
        reply = keyed.post("/v1/chat/completions", json=large, headers=bearer(OTHER))
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "rate_limit_exceeded")


def test_refused_requests_cost_nothing(keyed: httpx.Client) -> None:
    with keyed:
        for _ in range(5):
            odd = {**ASKED, "model": "nothing"}
            assert keyed.post("/v1/chat/completions", json=odd, headers=bearer(OTHER)).status_code == 404
        assert keyed.post("/v1/chat/completions", json=ASKED, headers=bearer(OTHER)).status_code == 200


def test_without_keys_no_web_page_reaches_the_server_by_another_name(mini: str) -> None:
    for host in (
        "evil.example",
        "localhost.evil.example:80",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::]",
        "",
    ):
        reply = httpx.get(f"{mini}/v1/models", headers={"Host": host})
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "unknown_host")
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:9", "127.0.0.2", "[::1]:8000", "[::1]"):
        assert httpx.get(f"{mini}/v1/models", headers={"Host": host}).status_code == 200


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[alice]\nkey = "{KEY}"\nrequests_per_minute = 2\n\n[bob]\nkey = "{OTHER}"\n')
    ring = read_keys(["one-more-key-in-words"], file)
    found = [ring.find(f"Bearer {key}") for key in (KEY, OTHER, "one-more-key-in-words", "no key")]
    assert [client and client.name for client in found] == ["alice", "bob", "key 1", None]
    assert found[0] is not None and found[1] is not None
    found[0].requests.take(2)
    assert found[0].requests.wait(1) > 0 and found[1].requests.wait(10**6) == 0


@pytest.mark.parametrize(
    "text",
    [
        f"[alice]\nkey = '{KEY}",
        f"key = '{KEY}'",
        f"[alice]\nkey = '{KEY}'\ntokens = 5",
        f"[alice]\nkey = '{KEY}'\nrequests_per_minute = 0",
        f"[alice]\nkey = '{KEY}'\nrequests_per_minute = true",
        f"[alice]\nkey = '{KEY}'\n[bob]\nkey = '{KEY}'",
        f"[alice]\nkey = ['{KEY}']",
        "[alice]\nkey = 'short'",
    ],
)
def test_odd_files_of_keys_are_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(InputError) as refusal:
        read_keys([], file)
    assert KEY not in str(refusal.value) and "short'" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize("key", ["tiny", "ü" * 20, "a key with some blanks", "line\nbreak" * 3])
def test_odd_keys_are_refused(key: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_keys([key])
    assert key not in str(refusal.value)


@pytest.mark.parametrize(
    "bounds", [{"concurrency": 0}, {"queue": -1}, {"max_seconds": float("nan")}, {"tokens": 10**6}]
)
def test_odd_limits_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Limits(**bounds)
