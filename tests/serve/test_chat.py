"""`/v1/chat/completions` by plain HTTP: what it does with each field, and what it refuses."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import rlm_agent
from rlm_agent import FakePolicy, GGUFPolicy
from rlm_agent.models.fake import Reply
from rlm_agent.serve.limits import Limits
from rlm_agent.structure.errors import ModelError

USER = {"role": "user", "content": "4 9 10 13 : 24"}
PATH = "/v1/chat/completions"
WEIGHTS = Path(rlm_agent.__file__).parent / "models" / "weights" / "mini.gguf"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "chain:mini", "messages": [USER], **fields}


def ask(web: httpx.Client, **fields: Any) -> dict[str, Any]:
    reply = web.post(PATH, json=body(**fields))
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def refused(web: httpx.Client, **fields: Any) -> dict[str, Any]:
    reply = web.post(PATH, json=body(**fields))
    assert 400 <= reply.status_code < 500
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return {**error, "status": reply.status_code}


def datas(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_one_seed_is_one_reply(web: httpx.Client) -> None:
    first, second, third = (ask(web, model="mcts:mini", seed=seed) for seed in (4, 4, 5))
    for reply in (first, second, third):
        del reply["choices"][0]["rlm"]["seconds"]
    assert first["choices"] == second["choices"] != third["choices"]
    assert first["system_fingerprint"] == second["system_fingerprint"] == third["system_fingerprint"]
    assert first["usage"]["completion_tokens"] == second["usage"]["completion_tokens"]


def test_choices_are_searches_that_can_be_repeated_one_by_one(web: httpx.Client) -> None:
    several = ask(web, model="mcts:mini", n=3, seed=4)
    assert [choice["index"] for choice in several["choices"]] == [0, 1, 2]
    assert len({choice["rlm"]["seed"] for choice in several["choices"]}) == 3
    total = 0
    for choice in several["choices"]:
        alone = ask(web, model="mcts:mini", seed=choice["rlm"]["seed"])
        assert alone["choices"][0]["message"] == choice["message"]
        total += alone["usage"]["completion_tokens"]
    assert several["usage"]["completion_tokens"] == total


def test_fingerprint_differs_with_the_parameters(web: httpx.Client) -> None:
    plain = ask(web)["system_fingerprint"]
    assert ask(web, temperature=0.5)["system_fingerprint"] != plain
    assert ask(web, model="best_of_n:mini")["system_fingerprint"] != plain


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_budget_is_never_exceeded(web: httpx.Client, field: str) -> None:
    reply = ask(web, model="mcts:mini", rlm={"parameters": {"stop_when_verified": False}}, **{field: 150})
    assert 100 < reply["usage"]["completion_tokens"] <= 150
    assert reply["choices"][0]["rlm"]["stopped"] == "tokens"


def test_smallest_of_several_bounds_holds(web: httpx.Client) -> None:
    rlm = {"budget": {"tokens": 90, "nodes": 50}, "parameters": {"stop_when_verified": False}}
    reply = ask(web, model="mcts:mini", rlm=rlm, max_tokens=300, max_completion_tokens=200)
    assert reply["usage"]["completion_tokens"] <= 90


def test_no_answer_within_the_budget_ends_by_length(web: httpx.Client) -> None:
    reply = ask(web, max_tokens=2)
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["choices"][0]["message"]["content"] == "No answer was found (stopped: tokens)."


def test_effort_is_a_share_of_the_usual_budget(web: httpx.Client) -> None:
    rlm = {"parameters": {"stop_when_verified": False, "n": 1000, "parallel": 1}}
    low, usual = (
        ask(web, model="best_of_n:mini", rlm=rlm, reasoning_effort=effort)["usage"]["completion_tokens"]
        for effort in ("low", "medium")
    )
    assert 900 < low <= 1000 and 3900 < usual <= 4000


def test_stop_ends_the_answer_and_is_no_part_of_it(web: httpx.Client) -> None:
    whole = ask(web, model="mcts:mini", seed=1)["choices"][0]["message"]["content"]
    cut = ask(web, model="mcts:mini", seed=1, stop=["*", "- ("])["choices"][0]["message"]["content"]
    assert cut == whole[: min(whole.find(stop) for stop in ("*", "- (") if stop in whole)]


def test_stream_is_what_comes_at_once(web: httpx.Client) -> None:
    whole = ask(web, model="mcts:mini", seed=2)["choices"][0]
    reply = web.post(PATH, json=body(model="mcts:mini", seed=2, stream=True))
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    deltas = [chunk["choices"][0]["delta"] for chunk in datas(reply.text)]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == whole["message"]["content"]
    thoughts = "".join(delta.get("reasoning_content", "") for delta in deltas)
    assert thoughts == whole["message"]["reasoning_content"]
    assert all("usage" not in chunk for chunk in datas(reply.text))


def test_stream_of_thoughts_tells_the_whole_search(web: httpx.Client) -> None:
    asked = body(model="mcts:mini", seed=2, stream=True, rlm={"thoughts": True})
    chunks = datas(web.post(PATH, json=asked).text)
    end = chunks[-1]["choices"][0]
    thoughts = [line for chunk in chunks if (line := chunk["choices"][0]["delta"].get("reasoning_content"))]
    assert len(thoughts) == end["rlm"]["thoughts"]
    steps = ask(web, model="mcts:mini", seed=2)["choices"][0]["message"]["reasoning_content"].splitlines()
    assert {f"{step}\n" for step in steps} <= set(thoughts)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 10**12}, "max_tokens", "invalid_budget"),
        ({"max_tokens": 10**30}, "max_tokens", "invalid_budget"),
        ({"max_tokens": "5"}, "max_tokens", "invalid_value"),
        ({"max_tokens": True}, "max_tokens", "invalid_value"),
        ({"rlm": {"budget": {"tokens": 0}}}, "rlm.budget.tokens", "invalid_value"),
        ({"rlm": {"budget": {"calls": 10**12}}}, "rlm.budget.calls", "invalid_budget"),
        ({"rlm": {"budget": {"seconds": 1e9}}}, "rlm.budget.seconds", "invalid_budget"),
        ({"rlm": {"budget": {"tokns": 5}}}, "rlm.budget.tokns", "unknown_parameter"),
        ({"rlm": {"strategy": "magic"}}, "model", "model_not_found"),
        ({"rlm": {"parameters": {"branchng": 2}}}, None, "unknown_name"),
        ({"rlm": {"parameters": {"n": [1]}}}, "rlm.parameters.n.bool", "invalid_value"),
        ({"temprature": 1}, "temprature", "unknown_parameter"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"n": 9}, "n", "too_many"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"tools": [{"type": "function"}]}, "tools", "invalid_value"),
        ({"response_format": {"type": "json_object"}}, "response_format.type", "invalid_value"),
        ({"logprobs": True}, "logprobs", "invalid_value"),
        ({"presence_penalty": 0.5}, "presence_penalty", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "system", "content": "x"}]}, None, "invalid_problem"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role", "invalid_value"),
        ({"messages": [USER] * 300}, "messages", "too_many"),
        ({"messages": [USER, {"role": "assistant", "content": "y"}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": "hello"}]}, None, "invalid_problem"),
        ({"model": "mini:mcts"}, "model", "model_not_found"),
        ({"model": ""}, "model", "invalid_value"),
    ],
)  # fmt: skip
def test_refuses(web: httpx.Client, fields: dict[str, Any], param: str | None, code: str) -> None:
    error = refused(web, **fields)
    assert (error["param"], error["code"]) == (param, code)


def test_refuses_images(web: httpx.Client) -> None:
    image = {"type": "image_url", "image_url": {"url": "http://localhost/secret"}}
    assert "messages.0.content" in refused(web, messages=[{"role": "user", "content": [image]}])["param"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"value": "/etc/passwd.gguf"},
        {"value": "math_shepherd:/x.gguf"},
        {"discriminator": "mini"},
        {"discriminator": "http://localhost/v1"},
        {"value": "prm:http://localhost/v1"},
        {"n": 10**9},
        {"temperature": 1e300},
        {"model": "/x.gguf"},
        {"grammar": "root ::= root"},
        {"checkpointer": True},
        {"name": "x"},
        {"verifier": "game24"},
    ],
)
def test_refuses_parameters_that_no_client_may_set(web: httpx.Client, parameters: dict[str, Any]) -> None:
    strategy = "rstar" if "discriminator" in parameters else "best_of_n"
    error = refused(web, rlm={"strategy": strategy, "parameters": parameters})
    assert error["status"] == 400
    assert "no client may set" in error["message"] or "cannot be given as text" in error["message"]


def test_stream_that_fails_at_once_is_an_error_with_its_status(web: httpx.Client) -> None:
    error = refused(web, messages=[{"role": "user", "content": "hello"}], stream=True)
    assert error["code"] == "invalid_problem"


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"a":' * 50_000, {}, 400),
        (b'{"n": ' + b"9" * 5000 + b"}", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b'{"model": "mini", "messages": [{"role": "user", "content": "\\ud800"}]}', {}, 400),
        (b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}', {}, 400),
        (b'{"model": "mini", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}', {}, 400),
        (b'{"model": "mini", "messages": [{"role": "user", "content": "x"}], "\\ud800": 1}', {}, 400),
        (b"{}", {"content-type": "text/plain"}, 400),
        (b"x" * 2_000_000, {}, 413),
    ],
)
def test_malformed_bodies(web: httpx.Client, content: bytes, headers: dict[str, str], status: int) -> None:
    reply = web.post(PATH, content=content, headers={"content-type": "application/json", **headers})
    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


def test_body_that_does_not_say_its_length_is_bounded_too(web: httpx.Client) -> None:
    reply = web.post(
        PATH, content=(b" " * 100_000 for _ in range(30)), headers={"content-type": "application/json"}
    )
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")


def test_body_that_does_not_come_is_not_waited_for(serve: Any) -> None:
    url = serve({"mini": "mini"}, "chain", limits=Limits(body_seconds=0.2))
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
        connection.settimeout(10)
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_unknown_paths_and_methods_are_errors_in_the_same_shape(web: httpx.Client) -> None:
    for reply, status in ((web.get("/v2"), 404), (web.get(PATH), 405)):
        assert reply.status_code == status
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


def test_system_text_and_parts_reach_a_general_model(serve: Any) -> None:
    policy = FakePolicy(lambda question, prefix: [("\\boxed{4}", 0.0, True)])
    url = serve({"general": policy}, "chain")
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?", "name": "someone"},
        {"role": "assistant", "content": "2", "reasoning_content": "1 + 1 = 2", "tool_calls": []},
        {"role": "user", "content": [{"type": "text", "text": "2 + 2"}, {"type": "text", "text": "?"}]},
    ]
    reply = httpx.post(url + PATH, json={"model": "general", "messages": messages}).json()
    assert reply["choices"][0]["message"]["content"] == "4"
    said = [(message["role"], message["content"]) for message in policy.requests[0].messages]
    assert said[-4:] == [
        ("system", "Be brief."),
        ("user", "1 + 1?"),
        ("assistant", "2"),
        ("user", "2 + 2\n?"),
    ]


class Broken(FakePolicy):
    """Fails as a model may, with words that are not for clients."""

    def __init__(self, error: Exception) -> None:
        super().__init__(lambda question, prefix: [])
        self.error = error

    def generate(self, requests: Any) -> Any:
        raise self.error


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", [ModelError("/secret/path is gone"), ZeroDivisionError("/secret/path")])
def test_failures_tell_clients_nothing_of_the_inside(serve: Any, error: Exception, stream: bool) -> None:
    url = serve({"broken": Broken(error)}, "chain")
    asked = {"model": "broken", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    reply = httpx.post(url + PATH, json=asked)
    assert reply.status_code == 500
    assert "secret" not in reply.text and "Traceback" not in reply.text
    assert reply.json()["error"]["type"] == "server_error"
    assert httpx.get(f"{url}/health").json()["searches_running"] == 0


def test_model_that_says_nothing_is_a_bad_gateway(serve: Any) -> None:
    policy = FakePolicy(lambda question, prefix: [("x", 0.0)], fails=dict.fromkeys(range(100), "down"))
    url = serve({"silent": policy}, "chain")
    reply = httpx.post(url + PATH, json={"model": "silent", "messages": [{"role": "user", "content": "x"}]})
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "model_unavailable")


def test_prompt_too_long(serve: Any) -> None:
    policy = GGUFPolicy(WEIGHTS, context=32)
    policy.task = None  # so that any text is a question
    try:
        url = serve({"small": policy}, "chain")
        asked = {"model": "small", "messages": [{"role": "user", "content": "1 + 2 " * 100}]}
        error = httpx.post(url + PATH, json=asked).json()["error"]
        assert error["code"] == "context_length_exceeded"
    finally:
        policy.close()


def test_silence_of_a_stream_is_broken(serve: Any) -> None:
    url = serve({"mini": "mini"}, "mcts", limits=Limits(keep_alive=0.02))
    asked = body(
        model="mini", stream=True, max_tokens=2000, rlm={"parameters": {"stop_when_verified": False}}
    )
    reply = httpx.post(url + PATH, json=asked, timeout=60)
    assert reply.text.count(": searching\n\n") > 3
    assert datas(reply.text)[-1]["choices"][0]["finish_reason"] in ("stop", "length")


def scripted(question: str, prefix: str) -> list[Reply]:
    return [("one more step", 0.0)]


class Late(FakePolicy):
    """Fails when the stream has begun."""

    async def agenerate(self, requests: Any) -> Any:
        await asyncio.sleep(0.3)
        raise ModelError("/secret")


def test_error_within_a_stream_is_told_in_it(serve: Any) -> None:
    url = serve({"late": Late(scripted)}, "chain", limits=Limits(keep_alive=0.05))
    asked: dict[str, Any] = {"model": "late", "messages": [{"role": "user", "content": "x"}], "stream": True}
    reply = httpx.post(url + PATH, json=asked)
    assert reply.status_code == 200
    last = reply.text.strip().splitlines()[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
    assert "secret" not in reply.text and "[DONE]" not in reply.text
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        with pytest.raises(openai.APIError, match="the model failed"):
            list(client.chat.completions.create(**asked))
        events = list(client.responses.create(model="late", input="x", stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error is not None and events[-1].response.error.code == "server_error"
