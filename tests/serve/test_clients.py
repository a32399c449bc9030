"""Clients that others wrote, by nothing but a base URL."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from rlm_agent import create_reasoner

PUZZLE = "4 9 10 13 : 24"
ASKED: list[Any] = [{"role": "user", "content": PUZZLE}]


@pytest.fixture(scope="module")
def client(mini: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{mini}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_openai_gets_the_answer_and_the_usage_of_the_search(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="beam_search:mini", messages=ASKED, seed=3)
    state = create_reasoner("beam_search", "mini", seed=3).invoke({"messages": [("user", PUZZLE)]})
    message, usage = reply.choices[0].message, reply.usage
    assert message.content == state["answer"]
    assert message.reasoning_content == state["messages"][-1].additional_kwargs["reasoning_content"]  # type: ignore[attr-defined]
    assert usage is not None and usage.completion_tokens_details is not None
    spent = state["usage"]
    assert usage.completion_tokens == spent["completion_tokens"]
    assert usage.prompt_tokens == spent["prompt_tokens"] + spent["cached_tokens"]
    assert usage.completion_tokens_details.reasoning_tokens == spent["completion_tokens"]
    assert (reply.model, reply.choices[0].finish_reason) == ("beam_search:mini", "stop")


def test_openai_streams_what_it_gets_at_once(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="mcts:mini", messages=ASKED, seed=3, n=2)
    chunks = list(
        client.chat.completions.create(
            model="mcts:mini",
            messages=ASKED,
            seed=3,
            n=2,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    for index, choice in enumerate(whole.choices):
        deltas = [each.delta for chunk in chunks for each in chunk.choices if each.index == index]
        assert "".join(delta.content or "" for delta in deltas) == choice.message.content
        thoughts = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
        assert thoughts == choice.message.reasoning_content  # type: ignore[attr-defined]
    ends = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert ends == ["stop", "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None and whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


async def test_openai_asks_many_at_once(mini: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{mini}/v1", api_key="any", max_retries=0) as client:
        replies = await asyncio.gather(
            *(
                client.chat.completions.create(model="self_consistency:mini", messages=ASKED, seed=seed)
                for seed in (1, 2) * 4
            )
        )
    assert len({reply.choices[0].message.content for reply in replies[::2]}) == 1
    assert len({reply.id for reply in replies}) == 8


def test_openai_passes_options_on(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="mini",
        messages=ASKED,
        extra_body={
            "rlm": {"strategy": "best_of_n", "budget": {"calls": 7}, "seed": 5, "parameters": {"n": 7}}
        },
    )
    assert reply.model == "best_of_n:mini"
    report = reply.choices[0].rlm  # type: ignore[attr-defined]
    assert report["seed"] == 5
    assert report["model_calls"] <= 7


def test_openai_reads_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="mcts:maxi", messages=ASKED)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as odd:
        client.chat.completions.create(model="mini", messages=[{"role": "user", "content": "hello"}])
    assert odd.value.code == "invalid_problem"


def test_openai_lists_models(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[0] == "mcts:mini" and "beam_search:mini" in names
    assert client.models.retrieve("mini").id == "mcts:mini"


def test_openai_responses_at_once_and_streamed(client: openai.OpenAI) -> None:
    extra = {"rlm": {"seed": 3}}
    whole = client.responses.create(model="beam_search:mini", input=PUZZLE, extra_body=extra)
    with client.responses.stream(model="beam_search:mini", input=PUZZLE, extra_body=extra) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    assert whole.output_text == streamed.output_text
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert [item.type for item in streamed.output] == ["reasoning", "message"]
    assert whole.usage == streamed.usage or whole.usage.output_tokens == streamed.usage.output_tokens  # type: ignore[union-attr]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert whole.status == "completed"


def test_openai_goes_on_from_a_response_that_it_sends_back(client: openai.OpenAI) -> None:
    first = client.responses.create(model="beam_search:mini", input=PUZZLE)
    sent_back: list[Any] = [
        {"role": "user", "content": PUZZLE},
        *(item.model_dump() for item in first.output),
    ]
    second = client.responses.create(
        model="beam_search:mini", input=[*sent_back, {"role": "user", "content": "2 3 4 : 24"}]
    )
    assert digits_of(second.output_text) == {"2", "3", "4"}


def digits_of(answer: str) -> set[str]:
    return {letter for letter in answer if letter.isdigit()}


@pytest.mark.parametrize("responses", [False, True])
def test_langchain_openai(mini: str, responses: bool) -> None:
    model = ChatOpenAI(
        model="beam_search:mini",
        base_url=f"{mini}/v1",
        api_key=SecretStr("any"),
        max_retries=0,
        extra_body={"rlm": {"seed": 3}},
        use_responses_api=responses,
    )
    reply = model.invoke(PUZZLE)
    state = create_reasoner("beam_search", "mini", seed=3).invoke({"messages": [("user", PUZZLE)]})
    assert reply.text == state["answer"]
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["output_tokens"] == state["usage"]["completion_tokens"]
    assert reply.usage_metadata["output_token_details"]["reasoning"] == state["usage"]["completion_tokens"]
    whole = AIMessageChunk(content="")
    for chunk in model.stream(PUZZLE):
        whole += chunk
    assert whole.text == state["answer"]


@pytest.mark.slow
def test_litellm(mini: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: it takes seconds to import, and sets up logging and event loops for all."""
    code = f"""
import litellm
asked = dict(model="openai/mcts:mini", messages={ASKED!r}, api_base="{mini}/v1", api_key="any", seed=3)
reply = litellm.completion(**asked)
print(reply.choices[0].message.content)
print(reply.choices[0].message.reasoning_content.count(chr(10)))
print(reply.usage.completion_tokens)
chunks = list(litellm.completion(stream=True, **asked))
print("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
thoughts = [getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks]
print("".join(thoughts).count(chr(10)))
"""
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    state = create_reasoner("mcts", "mini", seed=3).invoke({"messages": [("user", PUZZLE)]})
    lines = str(state["messages"][-1].additional_kwargs["reasoning_content"].count("\n"))
    spent = str(state["usage"]["completion_tokens"])
    assert done.stdout.split("\n")[:5] == [state["answer"], lines, spent, state["answer"], lines]
