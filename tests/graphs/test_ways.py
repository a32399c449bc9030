"""The ways into apps of LangChain: a chat model, a tool, a middleware, a pre-built agent."""

import importlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import (
    FakePolicy,
    ReasonerChatModel,
    ReasoningMiddleware,
    as_tool,
    create_chain,
    create_reasoner,
    create_reasoning_agent,
)
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.models.fake import Reply
from rlm_agent.models.langchain.chat_gguf import ChatGGUF
from rlm_agent.structure.errors import InputError, MissingExtraError, ProblemError, UnknownNameError

STEPS = "First.\nSecond.\nThe answer is \\boxed{7}."
IMAGE = HumanMessage([{"type": "image", "url": "https://example.com/a.png"}])


def thinks(question: str, prefix: str) -> list[Reply]:
    return [("So \\boxed{12 pears}.", -1.0, True)] if prefix else [("4 times 3.", -1.0)]


def gives_up(question: str, prefix: str) -> list[Reply]:
    return [("", -1.0)]


@pytest.fixture
def policy() -> FakePolicy:
    return FakePolicy(thinks)


@pytest.fixture
def reasoner(policy: FakePolicy) -> Reasoner:
    return create_chain(policy, name="thinker", seed=1)


# --- a chat model -------------------------------------------------------------------------------------------


async def test_a_chat_model_answers_with_its_reasoning_beside(reasoner: Reasoner) -> None:
    model = ReasonerChatModel(reasoner)
    question = HumanMessage("How many pears?")
    state = reasoner.invoke({"messages": [question.model_copy()]})
    message = model.invoke([question])
    assert message.content == state["answer"] == "12 pears"
    assert [(block["type"], block.get("reasoning")) for block in message.content_blocks] == [
        ("reasoning", "4 times 3.\nSo \\boxed{12 pears}."),
        ("text", None),
    ]
    assert message.usage_metadata == state["messages"][-1].usage_metadata
    assert message.response_metadata["model_name"] == "thinker"
    assert question.id is None  # the caller's message stays as it was

    def content(other: BaseMessage) -> object:
        return other.content, other.additional_kwargs, getattr(other, "usage_metadata", None)

    chunks = list(model.stream([question]))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert len(chunks) == 3
    assert content(whole) == content(message) == content(await model.ainvoke([question]))
    assert [part async for part in model.astream([question])][-1].text == "12 pears"


def test_a_chat_model_takes_stops_and_terms(policy: FakePolicy, reasoner: Reasoner) -> None:
    model = ReasonerChatModel(reasoner, stop=["pe"])
    assert model.invoke("How many pears?").content == "12 "
    assert model.invoke("How many pears?", stop=["12"]).content == ""
    seeds = []
    for seed in (3, 3, 4):
        model.invoke("How many pears?", seed=seed)
        seeds.append(policy.requests[-1].seed)
    assert seeds[0] == seeds[1] != seeds[2]
    cut = model.invoke("How many pears?", budget={"calls": 1})
    assert cut.response_metadata["finish_reason"] == "length"
    assert "No answer was found" in str(cut.content)


def test_a_chat_model_says_what_it_cannot_do(reasoner: Reasoner) -> None:
    model = ReasonerChatModel(reasoner)
    with pytest.raises(UnknownNameError, match="has no parameter 'temperature'"):
        model.invoke("How many pears?", temperature=1)
    with pytest.raises(InputError, match="reads text, and no 'image'"):
        model.invoke([IMAGE])
    with pytest.raises(InputError, match="the conversation is empty"):
        model.invoke([])
    with pytest.raises(ProblemError):
        ReasonerChatModel(create_chain("mini")).invoke("How many pears?")


# --- a tool -------------------------------------------------------------------------------------------------


class Caller(BaseChatModel):
    """Calls its tools once with the user's question, then repeats what it was told; remembers the prompts."""

    prompts: list[list[BaseMessage]]

    @property
    def _llm_type(self) -> str:
        return "caller"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(names=[each.name for each in tools])

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.prompts.append(messages)
        usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
        last, names = messages[-1], kwargs.get("names", ())
        calls = [
            ToolCall(name=name, args={"question": last.text}, id=f"{name}-1", type="tool_call")
            for name in (names if isinstance(last, HumanMessage) else ())
        ]
        content = f"I was told: {last.text}"
        message = AIMessage("" if calls else content, tool_calls=calls, usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])


@pytest.fixture
def caller() -> Caller:
    return Caller(prompts=[])


async def test_an_agent_asks_a_reasoner_as_a_tool(caller: Caller, reasoner: Reasoner) -> None:
    agent = create_agent(caller, [as_tool(reasoner, description="Counts.")], checkpointer=InMemorySaver())
    for thread, run in (("1", agent.invoke), ("2", agent.ainvoke)):
        config: Any = {"configurable": {"thread_id": thread}}
        state: Any = run({"messages": [HumanMessage("How many pears?")]}, config)
        state = await state if inspect.isawaitable(state) else state
        *_, told, reply = state["messages"]
        assert isinstance(told, ToolMessage)
        assert (told.content, told.name, told.status) == ("12 pears", "thinker", "success")
        assert told.artifact["answer"] == "12 pears"
        assert told.artifact["reasoning"].splitlines()[0] == "4 times 3."
        assert told.artifact["usage"]["model_calls"] == 2
        assert reply.content == "I was told: 12 pears"
        saved = [each.config["configurable"]["checkpoint_ns"] for each in agent.checkpointer.list(config)]  # type: ignore[union-attr]
        assert set(saved) == {""}  # nothing of the search is stored


def test_a_tool_tells_the_agent_what_its_reasoner_refuses(caller: Caller) -> None:
    agent = create_agent(caller, [as_tool(create_chain("mini"), name="game")])
    told = agent.invoke({"messages": [HumanMessage("How many pears?")]})["messages"][-2]
    assert isinstance(told, ToolMessage)
    assert told.status == "error"
    assert "24" in str(told.content)


# --- a middleware -------------------------------------------------------------------------------------------


@tool
def weigh(question: str) -> str:
    """Weigh pears."""
    return "3 kg"


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_a_hint_stands_in_the_system_prompt_once_a_question(
    caller: Caller, policy: FakePolicy, reasoner: Reasoner, colour: str
) -> None:
    agent = create_agent(
        caller, [weigh], system_prompt="Be kind.", middleware=[ReasoningMiddleware(reasoner)]
    )
    asked: Any = {"messages": [HumanMessage("How many pears?")]}
    state: Any = agent.invoke(asked) if colour == "sync" else await agent.ainvoke(asked)
    first, second = (prompt[0] for prompt in caller.prompts)
    assert first.text.startswith("Be kind.\n\n")
    assert "4 times 3." in first.text
    assert "Their answer: 12 pears" in first.text
    assert second.text == "Be kind."  # after the tool's result, nothing is reasoned about again
    assert len(policy.requests) == 2
    calling = state["messages"][1]
    assert calling.additional_kwargs["reasoning_content"].startswith("4 times 3.")
    cost = reasoner.invoke(asked)["usage"]["completion_tokens"]
    assert calling.usage_metadata["output_tokens"] == cost + 2
    assert state["messages"][-1].content == "I was told: 3 kg"


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_an_answer_stands_in_place_of_the_model(
    caller: Caller, reasoner: Reasoner, colour: str
) -> None:
    agent = create_agent(caller, [weigh], middleware=[ReasoningMiddleware(reasoner, use="answer")])
    asked: Any = {"messages": [HumanMessage("How many pears?")]}
    state: Any = agent.invoke(asked) if colour == "sync" else await agent.ainvoke(asked)
    assert state["messages"][-1].content == "12 pears"
    assert not caller.prompts


@pytest.mark.parametrize("use", ["hint", "answer"])
def test_the_model_is_called_as_ever_where_nothing_is_found(caller: Caller, use: Any) -> None:
    for nothing in (create_chain("mini"), create_chain(FakePolicy(gives_up))):
        agent = create_agent(caller, middleware=[ReasoningMiddleware(nothing, use=use)])
        state = agent.invoke({"messages": [HumanMessage("How many pears?")]})
        assert state["messages"][-1].content == "I was told: How many pears?"
        assert [message.type for message in caller.prompts[-1]] == ["human"]


def test_a_strategy_reasons_with_the_agents_own_model() -> None:
    model = FakeListChatModel(responses=[STEPS])
    middleware = ReasoningMiddleware("best_of_n", use="answer", n=2, seed=1)
    agent = create_agent(model, middleware=[middleware])
    reply = agent.invoke({"messages": [HumanMessage("How many pears?")]})["messages"][-1]
    assert reply.content == "7"
    agent.invoke({"messages": [HumanMessage("And now?")]})
    assert len(middleware._made) == 1


def test_what_a_middleware_cannot_do_is_told_at_once(reasoner: Reasoner) -> None:
    with pytest.raises(UnknownNameError, match="of no use as 'joke'"):
        ReasoningMiddleware(reasoner, use="joke")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="there is no strategy 'thinker'"):
        ReasoningMiddleware("thinker")
    with pytest.raises(InputError, match="'thinker' has its parameters already"):
        ReasoningMiddleware(reasoner, n=3)


# --- a pre-built agent --------------------------------------------------------------------------------------


def test_the_keywords_are_those_of_create_agent() -> None:
    theirs, ours = (inspect.signature(create).parameters for create in (create_agent, create_reasoning_agent))
    assert set(theirs) - set(ours) <= {"transformers"}  # which came with a later version than the oldest
    assert set(ours) - set(theirs) == {"reasoner", "use", "parameters"}
    assert all(ours[name].default == theirs[name].default for name in set(ours) & set(theirs))


def test_an_agent_of_a_file_reasons_with_it_and_remembers() -> None:
    agent = create_reasoning_agent(
        "mini",
        reasoner="best_of_n",
        use="answer",
        parameters={"n": 12, "seed": 1},
        checkpointer=InMemorySaver(),
    )
    thread: Any = {"configurable": {"thread_id": "1"}}
    agent.invoke({"messages": [HumanMessage("4 9 10 13 : 24")]}, thread)
    state = agent.invoke({"messages": [HumanMessage("1 5 5 5 : 24")]}, thread)
    assert [message.type for message in state["messages"]] == ["human", "ai"] * 2


def test_an_agent_of_a_chat_model_calls_tools(caller: Caller, reasoner: Reasoner) -> None:
    agent = create_reasoning_agent(caller, [weigh], reasoner=reasoner)
    reply = agent.invoke({"messages": [HumanMessage("How heavy?")]})["messages"][-1]
    assert reply.content == "I was told: 3 kg"
    assert "12 pears" in caller.prompts[0][0].text


def test_without_langchain_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain.agents.middleware", None)
    monkeypatch.delitem(sys.modules, "rlm_agent.graphs.ways.middleware", raising=False)
    with pytest.raises(MissingExtraError, match=r"rlm-agent\[agents\]"):
        importlib.import_module("rlm_agent.graphs.ways.middleware")


# --- chat models as policies --------------------------------------------------------------------------------

GENERAL = (
    "chain self_consistency best_of_n beam_search dvts particle_filtering best_first mcts rest_mcts".split()
)


class Repeating(BaseChatModel):
    """Says all that it has said before it goes on, a line at a time."""

    @property
    def _llm_type(self) -> str:
        return "repeating"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for line in STEPS.splitlines(keepends=True):
            yield ChatGenerationChunk(message=AIMessageChunk(content=line))


@pytest.mark.parametrize("strategy", GENERAL)
async def test_every_strategy_searches_with_a_chat_model(strategy: str) -> None:
    value = "arithmetic" if strategy in ("particle_filtering", "best_first", "rest_mcts") else None
    reasoner = create_reasoner(strategy, Repeating(), seed=1, value=value)
    state = reasoner.invoke({"messages": [HumanMessage("How many?")]})
    assert state["answer"] == "7"
    reply = state["messages"][-1]
    assert reply.additional_kwargs["reasoning_content"] == STEPS
    assert (await reasoner.ainvoke({"messages": [HumanMessage("How many?")]}))["answer"] == "7"


@pytest.mark.parametrize("strategy", ["chain", "self_consistency", "best_of_n", "beam_search", "mcts"])
def test_a_file_searches_alike_as_itself_and_as_a_chat_model(strategy: str) -> None:
    from rlm_agent.models.langchain.chat_policy import ChatModelPolicy

    asked: Any = {"messages": [HumanMessage("4 9 10 13 : 24")], "terms": {"budget": {"calls": 40}}}
    states = [
        create_reasoner(strategy, model, seed=3).invoke(asked)
        for model in ("mini", ChatModelPolicy(ChatGGUF("mini")))
    ]
    one, other = ((s["answer"], s["messages"][-1].additional_kwargs, spent(s["usage"])) for s in states)
    assert one == other


def spent(usage: dict[str, Any]) -> dict[str, Any]:
    prompt = usage["prompt_tokens"] + usage["cached_tokens"]
    kept = ("completion_tokens", "model_calls", "nodes")
    return {"prompt": prompt, **{name: usage[name] for name in kept}}
