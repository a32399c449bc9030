"""Chat models of LangChain as policies: what a search asks of them, and what comes of what they say."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, SecretStr

from rlm_agent.models.continuing import GO_ON
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.langchain.chat_gguf import ChatGGUF
from rlm_agent.models.langchain.chat_policy import ChatModelPolicy
from rlm_agent.models.protocols import Candidate, Decoding, Message, Policy, Request
from rlm_agent.models.resolve import load_policy, load_value
from rlm_agent.structure.errors import InputError, ModelError, UnknownNameError

QUESTION: tuple[Message, ...] = (
    {"role": "system", "content": "Think."},
    {"role": "user", "content": "What is 3 + 4?"},
)


def request(prefix: str = "", **changes: Any) -> Request:
    return Request(**{"messages": QUESTION, "prefix": prefix, "max_tokens": 30, "seed": 5, **changes})


class Recording(BaseChatModel):
    """Answers by what it is told to, and remembers how it was set and what it was asked."""

    temperature: float = 0.5
    max_tokens: int | None = None
    top_k: int | None = None
    seed: int | None = None
    key: SecretStr = SecretStr("sk-very-secret")
    says: Any = "one\ntwo"
    told: dict[str, Any] = Field(default_factory=dict)
    asked: list[Any] = Field(default_factory=list)
    pulled: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "recording"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        set_to = (self.temperature, self.max_tokens, self.top_k, self.seed)
        self.asked.append(([(each.type, each.content) for each in messages], set_to, kwargs))
        if isinstance(self.says, Exception):
            raise self.says
        for letter in self.says:
            self.pulled.append(letter)
            yield ChatGenerationChunk(message=AIMessageChunk(content=letter))
        last = AIMessageChunk(content="", response_metadata=self.told, chunk_position="last")
        yield ChatGenerationChunk(message=last)


def test_a_gguf_is_the_same_policy_through_langchain(talker: Path) -> None:
    own = load_policy(talker)
    policy = ChatModelPolicy(ChatGGUF(talker))
    requests = [
        request(prefix, seed=seed, stop=stop, decoding=Decoding(temperature=temperature, top_k=top_k))
        for prefix in ("", "First, ")
        for seed in (1, 2)
        for stop in ((), (" ",), ("a", "1"))
        for temperature, top_k in ((1.0, 0), (0.7, 5))
    ]
    expected, found = own.generate(requests), policy.generate(requests)
    again = asyncio.run(policy.agenerate(requests))
    for one, other, third in zip(expected, found, again, strict=True):
        assert one.text == other.text == third.text
        assert (one.tokens, one.finish) == (other.tokens, other.finish) == (third.tokens, third.finish)
        assert other.logprob == pytest.approx(one.logprob)
        assert one.prompt_tokens + one.cached_tokens == other.prompt_tokens + other.cached_tokens
    assert {completion.finish for completion in found} >= {"stop", "length"}


def test_it_stands_where_a_policy_stands(talker: Path) -> None:
    model = Recording()
    policy = load_policy(model)
    assert isinstance(policy, ChatModelPolicy)
    assert isinstance(policy, Policy)
    assert policy.decoding.temperature == 0.5
    assert policy.identity == ChatModelPolicy(model).identity != ChatModelPolicy(model, prefill=True).identity
    chat = ChatGGUF(talker)
    assert load_policy(chat) is chat.policy is load_policy(talker)


def test_a_stream_is_left_at_the_first_stop() -> None:
    model = Recording(says="one\ntwo\nthree")
    (completion,) = ChatModelPolicy(model).generate([request(stop=("\n",))])
    assert (completion.text, completion.finish) == ("one", "stop")
    assert "".join(model.pulled) == "one\n"
    assert completion.tokens >= 1


def test_without_a_stop_the_answer_ends_itself() -> None:
    (completion,) = ChatModelPolicy(Recording()).generate([request()])
    assert (completion.text, completion.finish) == ("one\ntwo", "end")


@pytest.mark.parametrize("told", [{"finish_reason": "length"}, {"stop_reason": "max_tokens"}])
def test_an_answer_that_was_cut_off_is_told(told: dict[str, str]) -> None:
    (completion,) = ChatModelPolicy(Recording(told=told)).generate([request()])
    assert completion.finish == "length"


def test_it_is_asked_to_go_on_and_may_repeat_itself() -> None:
    for says, text in (("one\ntwo\nthree", "two"), ("two\nthree", "two"), ("\n two", "two"), ("one", "")):
        model = Recording(says=says)
        (completion,) = ChatModelPolicy(model).generate([request("one\n", stop=("\n",))])
        assert completion.text == text
    messages = model.asked[0][0]
    assert messages[-2:] == [("ai", "one\n"), ("human", GO_ON)]
    ChatModelPolicy(model, prefill=True).generate([request("one\n")])
    assert model.asked[1][0][-1] == ("ai", "one\n")


def test_what_the_model_has_is_set_and_nothing_else() -> None:
    model = Recording()
    decoding = Decoding(temperature=0.25, top_p=0.5)
    ChatModelPolicy(model).generate([request(decoding=decoding, seed=2**40 + 3)])
    ChatModelPolicy(model, sends={"max_tokens"}).generate([request(decoding=decoding)])
    assert [set_to for _, set_to, _ in model.asked] == [(0.25, 30, None, 3), (0.5, 30, None, None)]
    assert all(not kwargs.get("stop") for *_, kwargs in model.asked)
    assert (model.temperature, model.max_tokens) == (0.5, None)


async def test_what_it_raises_fails_one_completion_and_shows_no_secret() -> None:
    policy = ChatModelPolicy(Recording(says=ConnectionError("no way in with sk-very-secret today")))
    for completions in (policy.generate([request()] * 2), await policy.agenerate([request()] * 2)):
        assert [one.finish for one in completions] == ["error"] * 2
        assert completions[0].error == "ConnectionError: no way in with … today"
    cut = FakeListChatModel(responses=["abcdef"], error_on_chunk_number=3)
    (completion,) = ChatModelPolicy(cut).generate([request()])
    assert completion.finish == "error"


class Slow(FakeListChatModel):
    """Tells how many of its calls ran at once at most."""

    now: int = 0
    most: int = 0

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.02)
        self.now -= 1
        yield ChatGenerationChunk(message=AIMessageChunk(content=str(messages[-1].content)))


async def test_requests_run_side_by_side_up_to_a_bound_and_come_back_in_order() -> None:
    model = Slow(responses=["x"])
    questions = [request(messages=({"role": "user", "content": str(number)},)) for number in range(12)]
    completions = await ChatModelPolicy(model, concurrency=4).agenerate(questions)
    assert [completion.text for completion in completions] == [str(number) for number in range(12)]
    assert model.most == 4


def test_threads_run_side_by_side_too() -> None:
    barrier = threading.Barrier(3, timeout=10)

    class Meeting(FakeListChatModel):
        def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
            barrier.wait()
            yield ChatGenerationChunk(message=AIMessageChunk(content="met"))

    completions = ChatModelPolicy(Meeting(responses=[""])).generate([request()] * 3)
    assert [completion.text for completion in completions] == ["met"] * 3


class Counting(BaseChatModel):
    """Has no stream, and says what it used."""

    @property
    def _llm_type(self) -> str:
        return "counting"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        usage = {
            "input_tokens": 11,
            "output_tokens": 4,
            "total_tokens": 15,
            "input_token_details": {"cache_read": 5},
        }
        logprobs = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.0}]}
        message = AIMessage(
            [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "ab"}],
            usage_metadata=usage,
            response_metadata={"logprobs": logprobs, "finish_reason": "stop"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def test_usage_and_logprobs_are_the_providers() -> None:
    (completion,) = ChatModelPolicy(Counting()).generate([request()])
    assert completion.text == "ab"
    assert (completion.tokens, completion.prompt_tokens, completion.cached_tokens) == (4, 6, 5)
    assert completion.logprob == -1.5


def test_what_no_chat_model_can_do_is_refused() -> None:
    policy = ChatModelPolicy(Recording())
    with pytest.raises(InputError, match="shows no special tokens"):
        policy.generate([request(stop=("<|x|>",), stop_tokens=("<|x|>",))])
    with pytest.raises(InputError, match="Recording takes no grammar"):
        policy.generate([request(decoding=Decoding(grammar='root ::= "a"'))])
    with pytest.raises(InputError, match="concurrency=0 asks nothing"):
        ChatModelPolicy(Recording(), concurrency=0)


def test_it_judges() -> None:
    value = load_value(Recording(says="Well done. The grade is 10."), load_policy(Recording()))
    assert value is not None
    (score,) = value.score([Candidate(QUESTION, ("3 + 4 = 7",), final=True)])
    assert score.error is None
    assert score.value == 1.0


def test_models_of_providers_are_named_by_a_string(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="'nobody:best' cannot be made"):
        load_policy("nobody:best")
    with pytest.raises(ModelError, match=r"cannot be made \(ImportError"):
        load_policy("groq:some-model")
    asked = []

    def init(name: str) -> BaseChatModel:
        asked.append(name)
        return Recording()

    monkeypatch.setattr("langchain.chat_models.init_chat_model", init)
    assert isinstance(load_policy("openai:some-model"), ChatModelPolicy)
    assert asked == ["openai:some-model"]


def test_a_gguf_named_with_a_colon_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be opened"):
        load_policy(f"{tmp_path}/x:y.gguf")


def test_its_policy_is_of_the_kind_that_knows_more(talker: Path) -> None:
    assert isinstance(load_policy(ChatGGUF(talker)), GGUFPolicy)
