"""Step formats through the real llama.cpp: blocks of tokens, patterns, special tokens."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_agent import Budget, Decoding, GGUFPolicy, Request, Steps, ThoughtGraph, create_mcts
from rlm_agent.graphs.reasoner import memory_saver
from rlm_agent.models.protocols import Completion, Message
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.formats import (
    EOIS,
    WHOLE,
    AnswerEnd,
    StepFormat,
    end_token,
    pattern,
    special_token,
    tokens,
)
from rlm_agent.structure.thoughts import Thought
from rlm_agent.training.tokenizer import BOS, PAD, SPECIAL_TOKENS

QUESTION = (Message(role="user", content="what is the answer"),)
BOS_ID, PAD_ID = SPECIAL_TOKENS.index(BOS), SPECIAL_TOKENS.index(PAD)


@pytest.fixture(scope="module")
def policy(tiny: Path) -> Iterator[GGUFPolicy]:
    policy = GGUFPolicy(tiny)
    yield policy
    policy.close()


def ask(policy: GGUFPolicy, prefix: str = "", **keywords: Any) -> Completion:
    (completion,) = policy.generate([Request(QUESTION, prefix, 24, 3, **keywords)])
    return completion


def forced(*ids: int) -> Decoding:
    """Greedy, and nothing but these tokens."""
    return Decoding(temperature=0, logit_bias=tuple((id, 1000.0) for id in ids))


def spelled(text: str) -> Decoding:
    """Greedy, and nothing but this text, in plain tokens."""
    banned = ((BOS_ID, -1000.0), (PAD_ID, -1000.0))
    return Decoding(temperature=0, grammar=f'root ::= "{text}"', logit_bias=banned)


def search(
    policy: GGUFPolicy, unit: StepFormat, decoding: Decoding | None = None, **steps: Any
) -> ThoughtGraph:
    """The tree of a search of 30 calls in which each chain may have four steps."""
    before, policy.decoding = policy.decoding, decoding or policy.decoding
    rules = Steps(max_tokens=24, max_steps=4, format=unit, **steps)
    try:
        reasoner = create_mcts(
            policy, branching=2, steps=rules, budget=Budget(calls=30), seed=1, checkpointer=memory_saver()
        )
    finally:
        policy.decoding = before
    thread: Any = {"configurable": {"thread_id": "1"}}
    reasoner.invoke({"messages": [("user", QUESTION[0]["content"])]}, thread)
    values = reasoner.get_state(thread).values
    return ThoughtGraph(values["run"]["root"], values["thoughts"], values["stats"])


def written(graph: ThoughtGraph) -> list[Thought]:
    return [graph.thoughts[id] for id in graph.walk() if id != graph.root]


def test_each_step_is_n_tokens_and_the_next_goes_on_in_mid_line(policy: GGUFPolicy) -> None:
    thoughts = written(search(policy, tokens(5)))
    steps = [thought for thought in thoughts if thought["kind"] == "step"]
    assert len(steps) > 10
    assert {thought["tokens"] for thought in steps} == {5}
    assert not any("cut off" in thought.get("reason", "") for thought in thoughts)


def test_a_pattern_cuts_what_the_model_wrote(policy: GGUFPolicy) -> None:
    graph = search(policy, pattern("[aeiou]"))
    steps = [thought for thought in written(graph) if thought["kind"] == "step"]
    assert len(steps) > 10
    for thought in steps:
        assert thought["text"][-1] in "aeiou" and not set(thought["text"][:-1]) & set("aeiou")
    assert max(thought["tokens"] for thought in steps) == 24


def test_a_special_token_ends_a_step_and_its_piece_is_no_part_of_it(policy: GGUFPolicy) -> None:
    plain = ask(policy, decoding=Decoding(temperature=0))
    likely = Decoding(temperature=0, logit_bias=((BOS_ID, 8.0),))
    stopped = ask(policy, decoding=likely, stop=(BOS,), stop_tokens=(BOS,))
    assert stopped.finish == "stop"
    assert stopped.tokens < plain.tokens and plain.text.startswith(stopped.text)
    assert BOS not in stopped.text


def test_in_a_prefix_the_text_stands_for_the_token(policy: GGUFPolicy) -> None:
    text = policy.file.tokenize
    start = policy.prompt(QUESTION, "")
    marked = policy.prompt(QUESTION, f"so{BOS}then{BOS}{PAD}", (BOS,))
    assert marked == (*start, *text("so"), BOS_ID, *text("then"), BOS_ID, *text(PAD))
    assert policy.prompt(QUESTION, f"so{BOS}then") == (*start, *text(f"so{BOS}then"))
    assert BOS_ID not in text(BOS)
    assert policy.prompt(QUESTION, "so", (BOS,)) == (*start, *text("so"))


def test_what_follows_a_special_token_is_asked_with_that_token(policy: GGUFPolicy) -> None:
    named: dict[str, Any] = {"stop": (BOS,), "stop_tokens": (BOS,), "decoding": Decoding(temperature=0)}
    policy.engine.forget()
    asked = ask(policy, f"so{BOS}", **named)
    assert asked.prompt_tokens == len(policy.prompt(QUESTION, f"so{BOS}", (BOS,)))
    assert asked.prompt_tokens < len(policy.prompt(QUESTION, f"so{BOS}"))


@pytest.mark.parametrize("prefix", ["", f"so{BOS}"])
def test_an_end_token_ends_the_answer_as_the_models_own_end_does(policy: GGUFPolicy, prefix: str) -> None:
    named: dict[str, Any] = {"stop": (BOS,), "stop_tokens": (BOS,), "end_tokens": (PAD,)}
    ended = ask(policy, prefix, decoding=forced(PAD_ID), **named)
    stopped = ask(policy, prefix, decoding=forced(BOS_ID), **named)
    assert (ended.finish, ended.text, ended.tokens) == ("end", "", 1)
    assert (stopped.finish, stopped.text, stopped.tokens) == ("stop", "", 1)


def test_a_token_that_is_spelled_out_ends_the_text_as_well(policy: GGUFPolicy) -> None:
    named: dict[str, Any] = {"stop": (BOS,), "stop_tokens": (BOS,), "end_tokens": (PAD,)}
    stopped = ask(policy, decoding=spelled(f"ab{BOS}c"), **named)
    ended = ask(policy, decoding=spelled(f"ab{PAD}c"), **named)
    whole = ask(policy, decoding=spelled(f"ab{PAD}c"))
    assert (stopped.text, stopped.finish) == ("ab", "stop")
    assert (ended.text, ended.finish) == ("ab", "end")
    assert (whole.text, whole.finish) == (f"ab{PAD}c", "end")


def test_a_search_between_special_tokens_ends_at_the_other_one(policy: GGUFPolicy) -> None:
    likely = Decoding(logit_bias=((BOS_ID, 5.0), (PAD_ID, 5.0)))
    graph = search(policy, special_token(BOS), likely, answer_end=end_token(PAD))
    kinds = {thought["kind"] for thought in written(graph)}
    assert {"step", "final"} <= kinds
    assert not any(BOS in thought["text"] or PAD in thought["text"] for thought in written(graph))
    assert search(policy, special_token(BOS), likely, answer_end=end_token(PAD)).thoughts.keys() == (
        graph.thoughts.keys()
    )


def test_pruned_branches_between_special_tokens_are_forgotten(policy: GGUFPolicy) -> None:
    named: dict[str, Any] = {"stop": (BOS,), "stop_tokens": (BOS,), "decoding": forced(BOS_ID)}
    prefix = f"so it goes{BOS}"
    policy.engine.forget()
    ask(policy, prefix, **named)
    assert ask(policy, prefix, **named).prompt_tokens == 0
    policy.release(QUESTION, [("", prefix)])
    again = ask(policy, prefix, **named)
    assert again.prompt_tokens == len(policy.prompt(QUESTION, prefix, (BOS,))) - len(
        policy.prompt(QUESTION, "")
    )


def test_a_whole_solution_is_one_thought(policy: GGUFPolicy) -> None:
    thoughts = written(search(policy, WHOLE, Decoding(logit_bias=((2, 3.0),))))
    assert {thought["depth"] for thought in thoughts} == {1}
    assert {thought["kind"] for thought in thoughts} <= {"final", "failed"}
    assert "final" in {thought["kind"] for thought in thoughts}


@pytest.mark.parametrize(
    ("unit", "end", "remedy"),
    [
        (EOIS, AnswerEnd(), r"no token '<eois>'.*Steps\(delimiter"),
        (special_token("several words"), AnswerEnd(), "no token"),
        (special_token("</s>"), AnswerEnd(), "name another token"),
        (special_token(BOS), end_token("</answer>"), "no token '</answer>'"),
    ],
)
def test_a_token_that_cannot_end_a_step_is_refused(
    policy: GGUFPolicy, unit: StepFormat, end: AnswerEnd, remedy: str
) -> None:
    with pytest.raises(InputError, match=remedy):
        search(policy, unit, answer_end=end)
