"""`rlm-agent serve` as a process: what it says, and how it ends."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from rlm_agent.app.cli import main
from rlm_agent.serve.catalogue import names_of
from rlm_agent.serve.running import in_background
from rlm_agent.structure.errors import InputError
from tests.serve.conftest import until
from tests.serve.test_leaving import ENDLESS, searches

KEY = "a-key-for-this-very-test"
# A shell's background jobs ignore SIGINT, and what they start inherits that.
RUN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
RUN += "from rlm_agent.app.cli import main; main()"
ASKED = {"model": "mini", "messages": [{"role": "user", "content": "4 9 10 13 : 24"}]}


class Process:
    """The command, started; `listen` waits until it serves."""

    def __init__(self, *options: str, **environment: str) -> None:
        command = [sys.executable, "-c", RUN, "serve", "--port", "0", *options]
        every = {**os.environ, **environment}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=every)
        self.said = self.url = ""

    def listen(self) -> None:
        assert self.process.stderr is not None
        self.said = self.process.stderr.readline() + self.process.stderr.readline()
        found = re.search(r"http://[0-9.]+:[0-9]+", self.said)
        assert found, self.said + self.process.stderr.read()
        self.url = found[0]

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ended(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    with ExitStack() as stack:

        def begin(*options: str, **environment: str) -> Process:
            started = Process(*options, **environment)
            stack.callback(started.close)
            started.listen()
            return started

        yield begin


def test_it_says_how_to_ask_and_the_example_works(start: Any) -> None:
    server = start("--strategy", "beam_search:width=2", "--strategy", "chain")
    assert "serves 2 models" in server.said
    command = server.said[server.said.index("curl") :]
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert '"model":"beam_search:mini"' in done.stdout
    server.interrupt()
    assert server.ended() == 130


@pytest.mark.slow
def test_keys_come_from_the_environment_and_are_not_said(start: Any) -> None:
    server = start("--strategy", "chain", RLM_SERVE_KEYS=f"{KEY} and-another-long-key")
    assert KEY not in server.said and "Bearer KEY" in server.said
    assert httpx.get(f"{server.url}/v1/models").status_code == 401
    assert httpx.get(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    server.process.terminate()
    assert server.ended() == -signal.SIGTERM
    assert KEY not in server.process.stderr.read()


@pytest.mark.slow
def test_first_interrupt_waits_for_searches(start: Any) -> None:
    server = start("--strategy", "mcts")
    replies: list[httpx.Response] = []
    body = {**ENDLESS, "max_tokens": 2500}

    def ask() -> None:
        replies.append(httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60))

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: searches(server.url) == 1)
    server.interrupt()
    with pytest.raises(httpx.TransportError):
        until(lambda: bool(httpx.get(f"{server.url}/health").status_code != 200))
    asking.join()
    assert replies[0].json()["usage"]["completion_tokens"] > 2000
    assert server.ended() == 130


@pytest.mark.slow
def test_second_interrupt_stops_searches(start: Any) -> None:
    server = start("--strategy", "mcts")
    failures: list[Exception] = []

    def ask() -> None:
        try:
            httpx.post(f"{server.url}/v1/chat/completions", json=ENDLESS, timeout=60).raise_for_status()
        except httpx.HTTPError as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: searches(server.url) == 1)
    server.interrupt()
    time.sleep(0.5)
    assert server.process.poll() is None
    server.interrupt()
    assert server.ended(5) == 130
    asking.join()
    assert len(failures) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "keys"),
        (["--host", "::"], "keys"),
        (["--host", "example.invalid"], "keys"),
        (["--key", "short"], "too short"),
        (["--keys-file", "/nowhere/keys.toml"], "no keys that can be read"),
        (["--strategy", "magic"], "no strategy 'magic'"),
        (["--strategy", "particle_filtering"], "value"),
        (["--model", "maxi"], "no model 'maxi'"),
        (["--model", "mini", "--model", "mini"], "two models"),
        (["--tokens", "5000", "--max-tokens", "100"], "larger than the largest"),
    ],
)
def test_refuses(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rlm-agent", "serve", *options])
    with pytest.raises(SystemExit) as stop:
        main()
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert said in error and error.count("\n") == 1


def test_port_in_use(mini: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(
        sys, "argv", ["rlm-agent", "serve", "--strategy", "chain", "--port", mini.rpartition(":")[2]]
    )
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "choose another port" in capsys.readouterr().err


def test_names_of_models_show_no_path(tmp_path: Path) -> None:
    file, url = str(tmp_path / "deep" / "own.gguf"), "http://inside:8000/v1#model=qwen/small"
    given = ["mini", file, "openai:gpt", url, "http://other:1/v1", f"fast={url}", "second=mini"]
    assert names_of(given) == {
        "mini": "mini",
        "own": file,
        "openai:gpt": "openai:gpt",
        "qwen/small": url,
        "other": "http://other:1/v1",
        "fast": url,
        "second": "mini",
    }


def test_a_server_that_does_not_come_up_says_so() -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(InputError, match="did not start"), in_background(failing):
        pass
