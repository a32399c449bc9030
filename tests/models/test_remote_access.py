"""URLs, keys and certificates: what is wrong with them is said, and a key is said nowhere."""

import copy
import logging
import pickle
import shutil
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.sqlite import SqliteSaver

from rlm_agent import Budget, create_reasoner
from rlm_agent.models.protocols import Message, Request
from rlm_agent.models.remote.address import address_of, options_of
from rlm_agent.models.remote.client import Patience
from rlm_agent.models.remote.policy import RemotePolicy
from rlm_agent.models.resolve import load_policy
from rlm_agent.structure.errors import (
    AccessError,
    InputError,
    RlmError,
    ServerError,
    UnansweredError,
    UnknownNameError,
)
from tests.scripted import Asked, scripted
from tests.servers import serving

KEY = "sk-verysecret-0123456789"
FEW = Patience(tries=2, attempt=2.0)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's keys are not ours."""
    for name in ("RLM_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def ask() -> Request:
    """A request."""
    return Request((Message(role="user", content="4 9 10 13 : 24"),), "", 30, 0, ("\n",))


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """llama.cpp's server, with a key."""
    with serving("llama.cpp", key=KEY) as url:
        yield url


def test_a_key_opens_the_server_and_is_seen_nowhere(
    guarded: str, caplog: pytest.LogCaptureFixture, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    policy = RemotePolicy(f"{guarded}/v1", tokenizer="mini", api_key=KEY)
    told: list[Any] = []
    with SqliteSaver.from_conn_string(str(tmp_path / "runs.db")) as saver:
        reasoner = create_reasoner("chain", policy, budget=Budget(tokens=99), seed=0, checkpointer=saver)
        config = {"configurable": {"thread_id": "1"}}
        for mode in ("custom", "values", "debug"):
            messages = {"messages": [("user", "4 9 10 13 : 24")]}
            told += reasoner.stream(messages, config, stream_mode=mode)  # type: ignore[call-overload]
    said = [repr(policy), repr(vars(policy)), repr(policy.client), repr(vars(policy.client)), policy.identity]
    said += [
        repr(policy.client.address),
        str(policy.client.address),
        repr(told),
        caplog.text,
        *capfd.readouterr(),
    ]
    policy.close()
    assert "HTTP Request" in caplog.text
    assert len(told) > 3
    assert not any(KEY in text for text in said)
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes()


@pytest.mark.parametrize("key", [None, "sk-wrong-9876543210"])
def test_a_wrong_key_says_where_and_what_to_do(guarded: str, key: str | None) -> None:
    policy = RemotePolicy(f"{guarded}/v1", api_key=key)
    with pytest.raises(AccessError, match=r"refuses .*set RLM_API_KEY") as caught:
        policy.generate([ask()])
    policy.close()
    assert guarded in str(caught.value)
    assert key is None or key not in "".join(traceback.format_exception(caught.value))
    assert policy.meter.tries <= 2


def test_an_error_that_repeats_the_key_is_cleaned() -> None:
    def script(asked: Asked) -> Any:
        return 400, {"error": {"message": f"bad header {asked.headers['authorization']}"}}

    with scripted(script) as server:
        policy = RemotePolicy(server.url, api_key=KEY)
        with pytest.raises(ServerError, match="bad header") as caught:
            policy.generate([ask()])
        policy.close()
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_no_key_follows_a_redirect() -> None:
    with (
        scripted(lambda asked: (200, {})) as thief,
        scripted(lambda asked: (307, {}, {"location": f"{thief.url}/v1/models"})) as server,
    ):
        policy = RemotePolicy(server.url, api_key=KEY)
        with pytest.raises(ServerError, match="sends elsewhere"):
            policy.generate([ask()])
        policy.close()
    assert thief.asked == []


def test_keys_of_the_environment_go_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    def key_for(url: str, given: str | None = None) -> str | None:
        key = address_of(url, given).key
        return None if key is None else key.get_secret_value()

    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    assert key_for("https://api.openai.com/v1") == "sk-openai"
    assert key_for("http://127.0.0.1:8080/v1") is None
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example/v1")
    assert key_for("https://gateway.example/v1") == "sk-openai"
    assert key_for("https://api.openai.com.evil.example/v1") is None
    monkeypatch.setenv("RLM_API_KEY", "mine")
    assert key_for("http://127.0.0.1:8080/v1") == "mine"
    assert key_for("https://api.openai.com/v1") == "mine"
    assert key_for("http://127.0.0.1:8080/v1", "given") == "given"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("ftp://host/v1", UnknownNameError),
        ("http://", UnknownNameError),
        ("http://[::1", UnknownNameError),
        ("http://host:port/v1", UnknownNameError),
        ("file:///etc/passwd", UnknownNameError),
        (f"http://user:{KEY}@host/v1", InputError),
        ("http://host/v1#colour=red", UnknownNameError),
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str, kind: type[RlmError]) -> None:
    with pytest.raises(kind) as caught:
        load_policy(url)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_an_error_of_ours(text: str) -> None:
    for url in (text, f"http://{text}", f"https://host/{text}"):
        try:
            address = address_of(options_of(url)[0])
        except RlmError:
            continue
        assert address.at("models").startswith(("http://", "https://"))


def test_paths_are_joined_where_servers_have_them() -> None:
    address = address_of("http://h:1/api/v1/?client=2")
    assert address.at("chat/completions") == "http://h:1/api/v1/chat/completions?client=2"
    assert address.at("/tokenize") == "http://h:1/api/tokenize?client=2"
    assert address.shown == "http://h:1/api/v1"
    assert address_of("http://h:1").at("models") == "http://h:1/v1/models"
    assert options_of("http://h/v1#org/name:tag") == ("http://h/v1", {"model": "org/name:tag"})
    assert options_of("http://h/v1#model=a/b&task=game24")[1] == {"model": "a/b", "task": "game24"}


@pytest.mark.parametrize("key", ["", " ", "a b", "a\nb", "ключ"])
def test_a_key_that_no_header_can_hold_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="copy it again"):
        RemotePolicy("http://127.0.0.1:1/v1", api_key=key)


def test_a_key_does_not_survive_a_copy_by_accident() -> None:
    address = address_of("http://h/v1", KEY)
    assert KEY not in str([address]) + repr({"a": address})
    for what in (address, RemotePolicy("http://h/v1", api_key=KEY)):
        with pytest.raises(TypeError, match="make it anew"):
            pickle.dumps(what)
        with pytest.raises(TypeError, match="make it anew"):
            copy.deepcopy(what)


def test_a_place_that_is_not_there_and_a_server_that_is_none() -> None:
    with scripted(lambda asked: (404, b"<html>nothing</html>")) as server:
        policy = RemotePolicy(f"{server.url}/v2#m", patience=FEW)
        with pytest.raises(AccessError, match=r"/v2 has no such place or model .*check the URL"):
            policy.generate([ask()])
        policy.close()
    with scripted(lambda asked: (200, b"<html>a web site</html>")) as server:
        policy = RemotePolicy(server.url, patience=FEW)
        with pytest.raises(UnansweredError, match="cannot be read"):
            policy.generate([ask()])
        policy.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that nobody has signed, and its private key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "private.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
    command = [*request, "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)
    return files


def test_a_certificate_that_nobody_signed_is_refused_unless_it_is_trusted(
    certificate: tuple[Path, Path],
) -> None:
    import ssl

    with scripted(lambda asked: (404, {}), certificate) as server:
        policy = RemotePolicy(server.url, api_key=KEY, patience=FEW)
        with pytest.raises(ServerError, match="no safe connection") as caught:
            policy.generate([ask()])
        policy.close()
        assert KEY not in str(caught.value)
        assert server.asked == []
        trusting = ssl.create_default_context(cafile=str(certificate[0]))
        policy = RemotePolicy(f"{server.url}/v1#m", api_key=KEY, verify=trusting, patience=FEW)
        with pytest.raises(AccessError, match="404"):
            policy.generate([ask()])
        policy.close()
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_plain_http_where_tls_is_spoken_and_the_reverse(certificate: tuple[Path, Path]) -> None:
    with scripted(lambda asked: (200, {})) as server:
        policy = RemotePolicy(server.url.replace("http:", "https:"), patience=FEW)
        with pytest.raises(ServerError, match="check https"):
            policy.generate([ask()])
        policy.close()
    with scripted(lambda asked: (200, {}), certificate) as server:
        policy = RemotePolicy(server.url.replace("https:", "http:"), patience=FEW)
        with pytest.raises(ServerError):
            policy.generate([ask()])
        policy.close()
