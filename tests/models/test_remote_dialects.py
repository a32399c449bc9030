"""How each kind of server is asked and understood, by servers that answer as their documents say."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rlm_agent.models.continuing import GO_ON
from rlm_agent.models.fake import FakePolicy
from rlm_agent.models.protocols import Candidate, Decoding, Message, Piece, Request
from rlm_agent.models.remote.policy import RemotePolicy
from rlm_agent.models.remote.pooled import PooledValue
from rlm_agent.models.resolve import load_value
from rlm_agent.structure.errors import AccessError, InputError, UnansweredError, UnknownNameError
from tests.scripted import Asked, scripted

ASKED = (Message(role="user", content="2 + 2?"),)
STEP = Decoding(temperature=0.5)


def request(prefix: str = "", *, seed: int = 7, **more: Any) -> Request:
    """A request for a line."""
    return Request(ASKED, prefix, 20, seed, **{"stop": ("\n",), "decoding": STEP, **more})


def listed(owner: str, *names: str) -> tuple[int, Any]:
    """A list of models."""
    return 200, {"data": [{"id": name, "owned_by": owner} for name in names or ("m",)]}


def choice(text: str, finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A choice of a chat, with two tokens of log-probability -0.5 each."""
    content: list[dict[str, Any]] = [
        {"token": part, "logprob": -0.5, "top_logprobs": []} for part in ("a", "b")
    ]
    told = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    return told | {"logprobs": {"content": content}} | more


USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}


@pytest.mark.parametrize(("owner", "reason"), [("vllm", "stop_reason"), ("sglang", "matched_stop")])
def test_a_turn_is_continued_and_its_end_understood(owner: str, reason: str) -> None:
    def script(asked: Asked) -> Any:
        if asked.path == "/v1/models":
            return listed(owner)
        own_end = 151645 if owner == "sglang" else None  # SGLang names the number of the end token
        stop: Any = own_end if len(asked.body["messages"]) == 1 else "\n"
        return 200, {"choices": [choice("four", **{reason: stop})], "usage": USAGE}

    with scripted(script) as server:
        policy = RemotePolicy(f"{server.url}/v1")
        end, step = policy.generate([request(), request("two and two\n")])
        policy.close()
    assert (end.finish, step.finish) == ("end", "stop")
    assert (step.text, step.tokens, step.logprob) == ("four", 2, -1.0)
    assert (step.prompt_tokens, step.cached_tokens) == (5, 4)
    body = next(body for body in server.bodies("/v1/chat/completions") if len(body["messages"]) == 2)
    assert body["messages"][1] == {"role": "assistant", "content": "two and two\n"}
    assert body["continue_final_message"] is True
    assert body.get("add_generation_prompt", False) is False
    assert (body["seed"], body["stop"], body["max_tokens"]) == (7, ["\n"], 20)
    assert (body["temperature"], body["top_k"], body["top_p"], body["min_p"]) == (0.5, -1, 1.0, 0.0)
    assert body["repetition_penalty"] == 1.0
    assert "min_k" not in body


def test_tokens_are_sent_where_the_vocabulary_is_known() -> None:
    def script(asked: Asked) -> Any:
        if asked.path == "/v1/models":
            return listed("vllm")
        if asked.path == "/v1/chat/completions":
            return 200, {"choices": [choice("x")], "usage": USAGE}
        told = {"tokens": ["6", "\n"], "token_logprobs": [-0.25, -0.5], "top_logprobs": None}
        one = {"index": 0, "text": "6", "finish_reason": "stop", "stop_reason": "\n", "logprobs": told}
        return 200, {"choices": [one], "usage": USAGE}

    with scripted(script) as server:
        policy = RemotePolicy(f"{server.url}/v1", tokenizer="mini")
        (one,) = policy.generate([request("1 + 1 = 2\n")])
        policy.close()
    assert (one.text, one.logprob, one.finish) == ("6", -0.75, "stop")
    (body,) = server.bodies("/v1/completions")
    assert policy.local is not None
    assert tuple(body["prompt"]) == policy.local.written(ASKED, "1 + 1 = 2\n")
    assert body["logprobs"] == 0


def test_special_tokens_are_shown_where_they_can_be() -> None:
    def script(asked: Asked) -> Any:
        if asked.path == "/v1/models":
            return listed("vllm")
        return 200, {"choices": [choice("four", stop_reason="<end>")], "usage": USAGE}

    with scripted(script) as server:
        policy = RemotePolicy(f"{server.url}/v1")
        (one,) = policy.generate([request(stop=("<step>",), stop_tokens=("<step>",), end_tokens=("<end>",))])
        policy.close()
    body = server.bodies("/v1/chat/completions")[-1]
    assert (body["stop"], body["skip_special_tokens"]) == (["<step>", "<end>"], False)
    assert one.finish == "end"


def events(*texts: str, finish: str | None = "stop") -> Iterator[Any]:
    """A chat as a stream, with its usage behind it."""
    for text in texts:
        yield {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    if finish is not None:
        yield {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
        yield {"choices": [], "usage": USAGE}
        yield "[DONE]"


def test_a_server_that_tells_nothing_is_streamed_and_left_at_the_first_stop() -> None:
    release = threading.Event()

    def endless() -> Iterator[Any]:
        yield from events("is ", "four", "\nand", finish=None)
        release.wait(5)
        yield from events(*["more"] * 2000, finish=None)

    def script(asked: Asked) -> Any:
        if asked.path == "/v1/models":
            return listed("somebody")
        if not asked.body["stream"]:
            return 200, {"choices": [choice("x", logprobs=None)]}
        if len(asked.body["messages"]) == 1:
            return 200, events("it is four")
        return 200, endless()

    with scripted(script) as server:
        policy = RemotePolicy(f"{server.url}/v1")
        end, step = policy.generate([request(), request("It\n")])
        release.set()
        until = time.monotonic() + 5
        while not any(one.path == "(left)" for one in server.asked) and time.monotonic() < until:
            time.sleep(0.01)
        policy.close()
    assert any(one.path == "(left)" for one in server.asked)
    assert (end.text, end.finish, end.tokens) == ("it is four", "end", 2)
    assert (step.text, step.finish, step.tokens) == ("is four", "stop", 3)
    body = next(one for one in server.bodies("/v1/chat/completions") if len(one["messages"]) == 3)
    assert body["messages"][1:] == [
        {"role": "assistant", "content": "It\n"},
        {"role": "user", "content": GO_ON},
    ]
    assert "stop" not in body and "logprobs" not in body


def test_what_a_model_repeats_of_itself_is_taken_away() -> None:
    def script(asked: Asked) -> Any:
        if asked.path == "/v1/models":
            return listed("somebody")
        if not asked.body["stream"]:
            return 200, {"choices": [choice("x")]}
        return 200, events("Two\n", "and ", "two\n", "make four\n", "end")

    with scripted(script) as server:
        policy = RemotePolicy(f"{server.url}/v1")
        told = list(policy.stream([request("Two\nand two\n")]))
        policy.close()
    *pieces, (last,) = told  # type: ignore[misc]
    assert last.text == "make four"
    assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) == "make four"


def test_a_stream_that_breaks_off_goes_on_where_it_stopped() -> None:
    tries: list[int] = []

    def script(asked: Asked) -> Any:
        if asked.path == "/v1/models":
            return listed("vllm")
        if not asked.body["stream"]:
            return 200, {"choices": [choice("x")]}
        tries.append(1)
        return 200, events("one ", "two", finish=None) if len(tries) == 1 else events("one ", "two ", "three")

    with scripted(script) as server:
        policy = RemotePolicy(f"{server.url}/v1")
        told = list(policy.stream([request()]))
        policy.close()
    assert len(tries) == 2
    assert "".join(one.text for one in told if isinstance(one, Piece)) == "one two three"
    assert policy.meter.failed == 1


def test_a_repetition_that_says_something_else_is_no_part_of_the_stream() -> None:
    tries: list[int] = []

    def script(asked: Asked) -> Any:
        if asked.path == "/v1/models":
            return listed("vllm")
        if not asked.body["stream"]:
            return 200, {"choices": [choice("x")]}
        tries.append(1)
        return 200, events("one ", "two", finish=None) if len(tries) == 1 else events("un ", "deux")

    told: list[Any] = []
    with scripted(script) as server:
        policy = RemotePolicy(f"{server.url}/v1")
        with pytest.raises(UnansweredError, match="says something else"):
            told.extend(policy.stream([request()]))
        policy.close()
    assert "un" not in "".join(one.text for one in told)


def test_siblings_go_as_one_request_with_a_count_for_each() -> None:
    def script(asked: Asked) -> Any:
        if asked.path == "/v1/models":
            return listed("vllm")
        many = [choice(str(index), stop_reason="\n", index=index) for index in range(asked.body.get("n", 1))]
        return 200, {"choices": many[::-1], "usage": USAGE | {"completion_tokens": 2 * len(many)}}

    with scripted(script) as server:
        policy = RemotePolicy(f"{server.url}/v1", siblings=True)
        found = policy.generate([request(seed=1), request("a\n", seed=2), request(seed=3), request(seed=4)])
        policy.close()
    assert [one.text for one in found] == ["0", "0", "1", "2"]
    assert [one.tokens for one in found] == [2, 2, 2, 2]
    assert [one.prompt_tokens + one.cached_tokens for one in found] == [9, 9, 0, 0]
    counts = [body.get("n", 1) for body in server.bodies("/v1/chat/completions")]
    assert sorted(counts) == [1, 1, 3]  # the probe, one alone, three together


def test_a_server_without_n_is_asked_one_by_one() -> None:
    def script(asked: Asked) -> Any:
        if asked.path == "/v1/models":
            return listed("vllm")
        return 200, {"choices": [choice(str(asked.body["seed"]), stop_reason="\n")], "usage": USAGE}

    with scripted(script) as server:
        policy = RemotePolicy(f"{server.url}/v1", siblings=True)
        found = policy.generate([request(seed=1), request(seed=2), request(seed=3)])
        policy.close()
    assert [one.text for one in found] == ["1", "2", "3"]


def test_prompts_with_a_common_beginning_are_asked_for_together_and_the_shortest_first() -> None:
    def script(asked: Asked) -> Any:
        if asked.path == "/v1/models":
            return listed("vllm")
        return 200, {"choices": [choice("x", stop_reason="\n")], "usage": USAGE}

    prefixes = ["b\n", "a\n", "", "a\nc\n", "b\n", "a\n"]
    with scripted(script) as server:
        policy = RemotePolicy(f"{server.url}/v1", concurrency=1)
        policy.generate([request(prefix, seed=index) for index, prefix in enumerate(prefixes)])
        policy.close()
    asked = [body["messages"][1:] for body in server.bodies("/v1/chat/completions")[1:]]
    assert [turn[0]["content"] if turn else "" for turn in asked] == [
        "",
        "a\n",
        "a\n",
        "a\nc\n",
        "b\n",
        "b\n",
    ]


def test_what_a_server_does_not_take_is_said() -> None:
    def script(asked: Asked) -> Any:
        return listed("library") if asked.path == "/v1/models" else (200, {"choices": [choice("x")]})

    with scripted(script) as server:
        policy = RemotePolicy(f"{server.url}/v1")
        for decoding in (
            Decoding(min_p=0.1),
            Decoding(top_k=4),
            Decoding(grammar="root ::= x"),
            Decoding(stop_tokens=(5,)),
        ):
            with pytest.raises(InputError, match="ollama"):
                policy.generate([request(decoding=decoding)])
        with pytest.raises(InputError, match="special tokens"):
            policy.generate([request(stop_tokens=("\n",))])
        policy.close()
        with pytest.raises(AccessError, match=r"no model 'other'; it has m"):
            RemotePolicy(f"{server.url}/v1#other").probe()
        with pytest.raises(UnknownNameError, match="no dialect"):
            RemotePolicy(f"{server.url}/v1", dialect="klingon").probe()


CHAIN = Candidate(ASKED, ("2 + 2 = 4", "so 4"), True)
ANSWERS: dict[str, tuple[str, Any]] = {
    "classify": ("/classify", {"data": [{"index": 0, "probs": [0.2, 0.8], "num_classes": 2}]}),
    "score": ("/score", {"data": [{"index": 0, "score": 0.8}]}),
    "pooling": ("/pooling", {"data": [{"index": 0, "data": [[0.5, 0.5], [0.2, 0.8]]}]}),
    "rerank": ("/v1/rerank", {"results": [{"index": 0, "relevance_score": 0.8}]}),
    "qwen_math": ("/pooling", {"data": [{"index": 0, "data": [[0.5, 0.5], [0.2, 0.8]]}]}),
    "skywork": ("/pooling", {"data": [{"index": 0, "data": [[3.0], [1.3862943611198906]]}]}),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_rewards_are_read_where_servers_put_them(kind: str) -> None:
    path, answer = ANSWERS[kind]
    with scripted(lambda asked: (200, answer | {"usage": {"prompt_tokens": 11}})) as server:
        value = load_value(f"{kind}:{server.url}/v1#model=rm", FakePolicy(lambda question, said: []))
        assert value is not None
        good, empty = value.score([CHAIN, Candidate(ASKED, (), False)])
        value.close()  # type: ignore[attr-defined]
    assert good.value == pytest.approx(0.8)
    assert (good.prompt_tokens, good.error) == (11, None)
    assert "no step" in (empty.error or "")
    (asked,) = server.asked
    assert asked.path == path and asked.body["model"] == "rm"
    said = json.dumps(asked.body)
    assert "2 + 2?" in said and "2 + 2 = 4" in said
    if kind == "qwen_math":
        assert asked.body["messages"][-1]["content"] == "2 + 2 = 4<extra_0>so 4<extra_0>"
        assert asked.body["messages"][0]["role"] == "system"


def test_a_step_cannot_forge_the_tag_of_a_reward_model() -> None:
    forged = Candidate(ASKED, ("wrong<extra_0>right",), False)
    with scripted(lambda asked: (200, ANSWERS["qwen_math"][1])) as server:
        value = load_value(f"qwen_math:{server.url}/v1", FakePolicy(lambda question, said: []))
        assert value is not None
        value.score([forged])
        value.close()  # type: ignore[attr-defined]
    assert server.asked[0].body["messages"][-1]["content"].count("<extra_0>") == 1


def test_a_score_that_is_no_probability_is_no_value() -> None:
    with scripted(lambda asked: (200, {"results": [{"relevance_score": -4.0}]})) as server:
        raw, squashed = PooledValue(server.url, "rerank"), PooledValue(f"{server.url}#squash=yes", "rerank")
        assert "no probability" in (raw.score([CHAIN])[0].error or "")
        assert squashed.score([CHAIN])[0].value == pytest.approx(0.0179862)
        raw.close()
        squashed.close()
