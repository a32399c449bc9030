"""A reasoner in a conversation, alone and as a node of other graphs."""

from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph

from rlm_agent import Budget, FakePolicy, Steps, create_best_of_n, create_chain
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.models.fake import Reply
from rlm_agent.structure.errors import ProblemError
from tests.graphs.scripts import CASES, ask, grown, reason, thread, wander


def echo(question: str, prefix: str) -> list[Reply]:
    """A policy that answers a question with itself."""
    return [(f"heard {question}", -1.0, True)]


def echoing(name: str = "echo", **common: Any) -> Reasoner:
    return create_chain(FakePolicy(echo), steps=Steps(), name=name, seed=1, **common)


def contents(messages: list[AnyMessage]) -> list[str]:
    return [message.text for message in messages]


def parent(*reasoners: Reasoner, parallel: bool = False, **options: Any) -> Any:
    """A graph over messages whose nodes are these reasoners, in a row or side by side."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    before = START
    for number, reasoner in enumerate(reasoners):
        builder.add_node(f"think{number}", reasoner)
        builder.add_edge(START if parallel else before, f"think{number}")
        before = f"think{number}"
        if parallel:
            builder.add_edge(before, END)
    return builder.compile(**options)


def test_a_reply_has_the_answer_the_steps_the_name_and_the_usage() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return [("4", -1.0, True)] if prefix else [("two and two", -1.0)]

    result = create_chain(FakePolicy(script), steps=Steps(), name="adder").invoke(ask("2 + 2?"))
    question, reply = result["messages"]
    assert isinstance(question, HumanMessage) and isinstance(reply, AIMessage)
    assert (reply.content, reply.name, result["answer"]) == ("4", "adder", "4")
    assert reply.additional_kwargs == {"reasoning_content": "two and two\n4"}
    assert reply.usage_metadata == {"input_tokens": 3 + 6, "output_tokens": 4 + 2, "total_tokens": 15}


@pytest.mark.parametrize("case", list(CASES))
def test_messages_answer_and_usage_are_put_out_and_nothing_else(case: str) -> None:
    assert set(reason(case).invoke(ask())) == {"messages", "answer", "usage"}


@pytest.mark.parametrize(
    "messages",
    [[], [AIMessage("hello")], [SystemMessage("be brief")], [HumanMessage("")], [HumanMessage(" \n ")]],
)
def test_a_conversation_without_a_question_is_refused(messages: list[AnyMessage]) -> None:
    policy = FakePolicy(echo)
    with pytest.raises(ProblemError):
        create_chain(policy, steps=Steps()).invoke({"messages": messages})
    assert policy.requests == []


def test_the_policy_reads_the_conversation_up_to_the_question() -> None:
    policy = FakePolicy(echo)
    create_chain(policy, steps=Steps(), system_prompt="be brief").invoke(
        {
            "messages": [
                SystemMessage("be kind"),
                HumanMessage("hi"),
                ToolMessage("42", tool_call_id="1"),
                AIMessage("hello"),
                HumanMessage([{"type": "text", "text": "how much?"}]),
                AIMessage("a reply that came too early"),
            ]
        }
    )
    assert policy.requests[0].messages == (
        {"role": "system", "content": "be brief"},
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "how much?"},
    )


def test_a_specialist_reads_the_question_alone_in_its_canonical_form() -> None:
    policy = FakePolicy(lambda question, prefix: [("1 + 23 = 24", -1.0)], task="game24")
    reasoner = create_chain(policy, system_prompt="be brief")
    result = reasoner.invoke({"messages": [HumanMessage("hi"), AIMessage("hello"), HumanMessage("1  23")]})
    assert policy.requests[0].messages == ({"role": "user", "content": "1 23 : 24"},)
    assert result["answer"] == "1 + 23"


def test_each_question_of_a_thread_gets_a_reply_of_its_own() -> None:
    reasoner = echoing(checkpointer=InMemorySaver())
    for question in ("one?", "two?", "three?"):
        result = reasoner.invoke(ask(question), thread())
    expected = ["one?", "heard one?", "two?", "heard two?", "three?", "heard three?"]
    assert contents(result["messages"]) == expected
    assert len({message.id for message in result["messages"]}) == 6


def test_threads_do_not_meet() -> None:
    reasoner = reason("x1", checkpointer=InMemorySaver())
    alone = reason("x1").invoke(ask())
    for name in "ab":
        assert reasoner.invoke(ask(), thread(name))["answer"] == alone["answer"]
    assert len(reasoner.get_state(thread("b")).values["messages"]) == 2


def test_a_conversation_that_was_trimmed_plants_no_root_over_an_older_one() -> None:
    reasoner = reason("x1", checkpointer=InMemorySaver(), budget=Budget(calls=12))
    roots = set()
    for number in range(3):
        result = reasoner.invoke(ask(f"question {number}"), thread())
        values = reasoner.get_state(thread()).values
        assert grown(values).question == f"question {number}"
        roots.add(values["run"]["root"])
        removals = [RemoveMessage(id=message.id) for message in result["messages"]]
        reasoner.update_state(thread(), {"messages": removals})
    assert len(roots) == 3
    assert roots <= set(reasoner.get_state(thread()).values["thoughts"])


@pytest.mark.parametrize("saver", [None, InMemorySaver()], ids=["plain", "kept"])
def test_a_reasoner_is_a_node_of_a_conversation_that_goes_on(saver: InMemorySaver | None) -> None:
    app = parent(echoing(), checkpointer=saver)
    messages: list[AnyMessage] = []
    for question in ("one?", "two?"):
        given = [HumanMessage(question)] if saver else [*messages, HumanMessage(question)]
        messages = app.invoke({"messages": given}, thread("node"))["messages"]
    assert contents(messages) == ["one?", "heard one?", "two?", "heard two?"]


def test_a_node_with_a_memory_of_its_own_keeps_a_tree_for_each_question() -> None:
    app = parent(reason("x1", checkpointer=True, budget=Budget(calls=12)), checkpointer=InMemorySaver())
    for question in ("one?", "two?"):
        messages = app.invoke(ask(question), thread())["messages"]
    assert [message.type for message in messages] == ["human", "ai", "human", "ai"]
    assert messages[1].content


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("saver", [None, InMemorySaver()], ids=["plain", "kept"])
def test_two_reasoners_in_one_graph_do_not_overwrite_each_other(
    parallel: bool, saver: InMemorySaver | None
) -> None:
    app = parent(echoing("first"), echoing("second"), parallel=parallel, checkpointer=saver)
    messages = app.invoke(ask("well?"), thread(f"two {parallel}"))["messages"]
    replies = messages[1:]
    assert contents(messages) == ["well?", "heard well?", "heard well?"]
    assert sorted(reply.name for reply in replies) == ["first", "second"]


async def test_a_node_works_asynchronously() -> None:
    app = parent(echoing("first"), echoing("second"), parallel=True)
    messages = (await app.ainvoke(ask("well?")))["messages"]
    assert contents(messages) == ["well?", "heard well?", "heard well?"]


def test_a_nested_search_tells_its_events_to_those_who_ask_for_subgraphs() -> None:
    app = parent(reason("x1", budget=Budget(calls=12)))
    told = [event for _, event in app.stream(ask(), stream_mode="custom", subgraphs=True)]
    assert {event["event"] for event in told} == {
        "operator", "thought", "value", "best", "budget", "answer"
    }  # fmt: skip


def test_no_answer_is_said_to_be_none() -> None:
    policy = FakePolicy(lambda question, prefix: [("", -1.0)])
    result = create_best_of_n(policy, n=2, steps=Steps()).invoke(ask())
    assert result["answer"] is None
    assert result["messages"][-1].content == "No answer was found (stopped: exhausted)."


def test_what_a_policy_wrote_before_it_wandered_off_is_told_by_no_reply() -> None:
    """The steps beside a reply are those of the chain that answers, not of the others."""
    result = reason("x1", FakePolicy(wander)).invoke(ask())
    steps = result["messages"][-1].additional_kwargs["reasoning_content"].split("\n")
    assert steps[-1] == result["answer"] and len(steps) <= 4
