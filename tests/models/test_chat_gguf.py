"""`ChatGGUF` says what the engine says, streams it as it comes, and lets go of what nobody waits for."""

import asyncio
import json
import time
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from pydantic import BaseModel, Field

from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.langchain.chat_gguf import ChatGGUF
from rlm_agent.models.protocols import Request
from rlm_agent.models.resolve import load_policy
from rlm_agent.structure.errors import (
    GrammarError,
    InputError,
    ModelFileError,
    PromptTooLongError,
    RlmError,
    UnknownNameError,
)

CHOICES: dict[str, dict[str, Any]] = {
    "auto": {},
    "any": {"tool_choice": "any"},
    "name": {"tool_choice": "shout", "parallel_tool_calls": False},
    "none": {"tool_choice": "none"},
}


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def shout(text: str) -> str:
    """Say it aloud."""
    return text.upper()


@pytest.fixture
def chat(talker: Path) -> ChatGGUF:
    ends = load_policy(talker)
    assert isinstance(ends, GGUFPolicy)
    biased = dict.fromkeys(ends.file.tokenize('"</s>', special=True), 4.0)
    return ChatGGUF(talker, seed=7, max_tokens=300, logit_bias=biased)


@pytest.fixture
def plain(talker: Path) -> ChatGGUF:
    return ChatGGUF(talker, seed=7, max_tokens=40)


def whole(chunks: Iterable[BaseMessage]) -> AIMessageChunk:
    first, *others = chunks
    assert isinstance(first, AIMessageChunk)
    for each in others:
        first += each
    assert isinstance(first, AIMessageChunk)
    return first


def content(message: AIMessage) -> list[object]:
    """All that does not name the run, and not what was cached by then."""
    usage = message.usage_metadata
    assert usage is not None
    told = {**message.response_metadata}
    return [
        message.content,
        [(call["name"], call["args"], call["id"]) for call in message.tool_calls],
        [(call["name"], call["args"]) for call in message.invalid_tool_calls],
        told,
        (usage["input_tokens"], usage["output_tokens"]),
    ]


def test_it_says_what_the_policy_says(plain: ChatGGUF) -> None:
    message = plain.invoke([SystemMessage("Be brief."), HumanMessage("Who are you?")])
    (completion,) = plain.policy.generate(
        [
            Request(
                messages=(
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Who are you?"},
                ),
                prefix="",
                max_tokens=40,
                seed=7,
            )
        ]
    )
    assert message.content == completion.text
    usage = message.usage_metadata
    assert usage is not None
    assert usage["output_tokens"] == completion.tokens
    assert usage["input_tokens"] == completion.prompt_tokens + completion.cached_tokens
    assert (
        plain.get_num_tokens_from_messages([SystemMessage("Be brief."), HumanMessage("Who are you?")])
        == (usage["input_tokens"])
    )


def test_an_assistants_last_message_is_gone_on_with(plain: ChatGGUF) -> None:
    message = plain.invoke([HumanMessage("Who are you?"), AIMessage("I am what")])
    question = ({"role": "user", "content": "Who are you?"},)
    (completion,) = plain.policy.generate([Request(question, "I am what", 40, 7)])  # type: ignore[arg-type]
    assert message.content == completion.text


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("seed", [1, 2])
async def test_all_ways_to_ask_bring_the_same(chat: ChatGGUF, choice: str, seed: int) -> None:
    model = chat.bind_tools([add, shout], seed=seed, **CHOICES[choice])
    message = model.invoke("Add 2 and 3.")
    streamed = list(model.stream("Add 2 and 3."))
    parts = [part async for part in model.astream("Add 2 and 3.")]
    assert content(message) == content(whole(streamed)) == content(whole(parts))
    assert content(await model.ainvoke("Add 2 and 3.")) == content(message)
    if choice in ("any", "name"):
        assert message.response_metadata["finish_reason"] == "tool_calls"
        called = [part for part in streamed if isinstance(part, AIMessageChunk) and part.tool_call_chunks]
        assert len(called) > 5  # arguments came piece by piece
        for call in message.tool_calls:
            assert choice == "any" or call["name"] == "shout"
            (add if call["name"] == "add" else shout)(**call["args"])
    if choice == "none":
        assert not message.tool_calls


@pytest.mark.parametrize("most", [1, 5, 9, 12, 20, 25, 30, 40])
def test_a_call_that_was_broken_off_is_no_call(chat: ChatGGUF, most: int) -> None:
    model = chat.bind_tools([shout], tool_choice="any", parallel_tool_calls=False, max_tokens=most, seed=3)
    for message in (model.invoke("hi"), whole(model.stream("hi"))):
        broken = message.response_metadata["finish_reason"] == "length"
        assert bool(message.tool_calls) is not broken
        assert most > 12 or broken


def test_a_stop_is_no_part_of_the_answer_and_never_streamed(plain: ChatGGUF) -> None:
    text = str(plain.invoke("hello").content)
    stop = text[8:11]
    chunks = list(plain.stream("hello", stop=[stop]))
    message = whole(chunks)
    assert message.content == text[: text.index(stop)]
    assert message.response_metadata["stop_sequence"] == stop
    own = ChatGGUF(**{**plain._said(), "model": plain.model, "stop": [stop]})
    assert own.invoke("hello").content == message.content


def test_logprobs_are_those_of_the_engine(plain: ChatGGUF) -> None:
    message = plain.invoke("hello", logprobs=True, top_logprobs=3)
    told = message.response_metadata["logprobs"]["content"]
    question = ({"role": "user", "content": "hello"},)
    (completion,) = plain.policy.generate([Request(question, "", 40, 7)])  # type: ignore[arg-type]
    assert sum(each["logprob"] for each in told) == pytest.approx(completion.logprob)
    assert len(told) == completion.tokens
    assert all(len(each["top_logprobs"]) == 3 for each in told)
    assert "logprobs" not in plain.invoke("hello").response_metadata


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    colour: Colour
    count: int = Field(description="how many")


class Order(BaseModel):
    """An order."""

    parts: list[Part] = Field(max_length=2)
    urgent: bool
    note: str | None = None


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_answers_follow_a_nested_schema(chat: ChatGGUF, method: Any, seed: int) -> None:
    model = chat.with_structured_output(Order, method=method, seed=seed)
    assert isinstance(model.invoke("Two red ones, please."), Order)
    assert isinstance(await model.ainvoke("Two red ones, please."), Order)
    raw = chat.with_structured_output(Order.model_json_schema(), include_raw=True, method=method, seed=seed)
    both = raw.invoke("Two red ones, please.")
    assert isinstance(both["raw"], AIMessage)
    assert both["parsing_error"] is None
    Order.model_validate(both["parsed"])


def test_a_broken_answer_is_told_beside_the_raw_one(chat: ChatGGUF) -> None:
    model = chat.with_structured_output(Order, include_raw=True, max_tokens=5)
    both = model.invoke("Two red ones, please.")
    assert both["parsed"] is None
    assert both["parsing_error"] is not None


@pytest.mark.parametrize("first", ["<", "{"])
@pytest.mark.parametrize("seed", [1, 2])
def test_with_tools_and_a_schema_an_answer_is_either(chat: ChatGGUF, first: str, seed: int) -> None:
    """The first letter, which the bias decides, is that of a call or that of an object."""
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}
    bias = dict.fromkeys(chat.get_token_ids(first), 100.0)
    model = chat.bind_tools(
        [add], parallel_tool_calls=False, response_format=form, logit_bias=bias, seed=seed
    )
    message = model.invoke("Add 2 and 3.")
    if first == "<":
        assert not message.content
        (call,) = message.tool_calls
        assert set(call["args"]) == {"a", "b"}
    else:
        assert not message.tool_calls
        assert set(json.loads(str(message.content))) == {"sum"}


def busy(policy: GGUFPolicy) -> bool:
    return policy.engine._worker._scheduler.busy


def settles(policy: GGUFPolicy) -> bool:
    """Whether the engine comes to rest long before it could have written all that was asked for."""
    end = time.monotonic() + 20
    while busy(policy) and time.monotonic() < end:
        time.sleep(0.005)
    return not busy(policy)


@pytest.fixture
def endless(talker: Path) -> ChatGGUF:
    """Never ends an answer by itself before its context does, many thousand batches later."""
    policy = load_policy(talker)
    assert isinstance(policy, GGUFPolicy)
    ends = policy.file.tokenize("</s>", special=True)
    return ChatGGUF(talker, seed=1, logit_bias=dict.fromkeys(ends, -100.0))


def test_leaving_a_stream_cancels_it(endless: ChatGGUF) -> None:
    stream = endless._stream([HumanMessage("hello")])
    next(stream)
    assert busy(endless.policy)
    before = endless.policy.engine.decoded
    stream.close()  # type: ignore[attr-defined]
    assert settles(endless.policy)
    assert endless.policy.engine.decoded - before < 2000


async def test_cancelling_a_task_cancels_its_call(endless: ChatGGUF) -> None:
    before = endless.policy.engine.decoded
    task = asyncio.create_task(endless.ainvoke("hello again"))
    while endless.policy.engine.decoded < before + 5:  # noqa: ASYNC110  the engine tells nobody
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert settles(endless.policy)
    assert endless.policy.engine.decoded - before < 3000


async def test_a_call_that_takes_too_long_ends(endless: ChatGGUF) -> None:
    for slow in (0.05, 0.2):
        with pytest.raises(TimeoutError, match="was not through after"):
            endless.invoke("hello", timeout=slow)
        with pytest.raises(TimeoutError, match="was not through after"):
            await endless.ainvoke("hello", timeout=slow)
    assert settles(endless.policy)


async def test_the_event_loop_stays_free_and_callers_do_not_mix(plain: ChatGGUF) -> None:
    questions = [f"What is {number}?" for number in range(16)]
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async def streamed(question: str) -> object:
        return whole([part async for part in plain.astream(question)]).content

    ticking = asyncio.create_task(tick())
    together = await asyncio.gather(*map(streamed, questions))
    ticking.cancel()
    assert ticks > 5
    assert together == [plain.invoke(question).content for question in questions]


def test_a_whole_round_of_calls_and_results_is_a_prompt(chat: ChatGGUF) -> None:
    model = chat.bind_tools([add], tool_choice="any", parallel_tool_calls=False)
    first = model.invoke("Add 2 and 3.")
    (call,) = first.tool_calls
    result = ToolMessage("5", tool_call_id=str(call["id"]))
    second = model.invoke([HumanMessage("Add 2 and 3."), first, result])
    assert second.tool_calls[0]["id"] != call["id"]  # ids tell calls of a conversation apart


IMAGE = {"type": "image", "url": "https://example.com/a.png"}
ERRORS: dict[str, tuple[Any, dict[str, Any], type[RlmError], str]] = {
    "empty": ([], {}, InputError, "the conversation is empty"),
    "only the assistant": ([AIMessage("I")], {}, InputError, "there is nothing to answer"),
    "role": ([ChatMessage(content="hi", role="oracle")], {}, InputError, "there is no role 'oracle'"),
    "image": ([HumanMessage([IMAGE])], {}, InputError, "reads text, and no 'image'"),
    "parameter": ("hi", {"temprature": 1}, UnknownNameError, "no parameter 'temprature'"),
    "temperature": ("hi", {"temperature": -1.0}, InputError, "draws nothing"),
    "no tokens": ("hi", {"max_tokens": 0}, InputError, "leaves no answer"),
    "format": ("hi", {"response_format": {"type": "xml"}}, InputError, "is no response_format"),
    "choice": ("hi", {"tool_choice": "any"}, InputError, "chooses among no tools"),
    "grammar": ("hi", {"grammar": "rot ::= x"}, GrammarError, 'has no rule "root"'),
    "long": ("word " * 5000, {}, PromptTooLongError, "shorten the conversation"),
    "two grammars": (
        "hi",
        {"grammar": 'root ::= "a"', "response_format": {"type": "json_object"}},
        InputError,
        "follows one grammar",
    ),
    "twins": ("hi", {"tools": [add, add]}, GrammarError, "two tools are named 'add'"),
}


@pytest.mark.parametrize("case", ERRORS)
async def test_what_cannot_be_done_is_told_in_a_sentence(plain: ChatGGUF, case: str) -> None:
    asked, options, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message) as caught:
        plain.invoke(asked, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(kind, match=message):
        await plain.ainvoke(asked, **options)
    with pytest.raises(kind, match=message):
        list(plain.stream(asked, **options))


def test_a_file_that_is_none_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be opened"):
        ChatGGUF(tmp_path / "none.gguf")
    with pytest.raises(UnknownNameError, match="there is no model 'gpt'"):
        ChatGGUF("gpt")
    with pytest.raises(InputError, match="tool_choice='sub' is no tool here"):
        ChatGGUF("mini").bind_tools([add], tool_choice="sub")


def test_what_it_can_do_is_told_to_agents(talker: Path) -> None:
    general, specialist = ChatGGUF(talker).profile, ChatGGUF("mini").profile
    assert general is not None
    assert specialist is not None
    assert (general["tool_calling"], specialist["tool_calling"]) == (True, False)
    assert general["max_input_tokens"] == 4096
