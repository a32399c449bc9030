"""How policies write calls: the syntax that a model's template shows, and a grammar that holds it to that."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool

from rlm_agent import Budget, Calculator, FakePolicy, Steps, Toolbox, create_react
from rlm_agent.models.calls import grammar_of, syntax_of
from rlm_agent.models.gguf.chat import ChatTemplate
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.gguf.sampling.grammar import Grammar
from rlm_agent.models.protocols import Message, Request
from rlm_agent.tools.actions import Call
from rlm_agent.tools.syntax import REACT, JsonCalls
from tests.graphs.scripts import ask
from tests.models.test_chat_tools import TEMPLATES


@tool
def add(first: int, second: int) -> int:
    """Adds two numbers."""
    return first + second


BOX = Toolbox([Calculator(), add])
SCHEMAS = list(BOX.schemas.items())
TAGS = JsonCalls("<tool_call>", "</tool_call>")
OFTEN = JsonCalls(opening="a")
"""Calls open with a letter that a model without sense writes all the time."""


@pytest.fixture(scope="module")
def policy(tiny: Path) -> Iterator[GGUFPolicy]:
    policy = GGUFPolicy(tiny)
    yield policy
    policy.close()


def shown(policy: GGUFPolicy, template: str, monkeypatch: pytest.MonkeyPatch) -> GGUFPolicy:
    monkeypatch.setitem(policy.file.metadata, "tokenizer.chat_template", template)
    monkeypatch.setattr(policy, "template", ChatTemplate(policy.file))
    return policy


@pytest.mark.parametrize(
    ("template", "syntax"),
    [
        ("chatml", REACT),
        ("hermes", TAGS),
        ("llama", JsonCalls(key="parameters")),
        ("mistral", JsonCalls()),
    ],
)
def test_a_policy_calls_as_its_template_shows(
    policy: GGUFPolicy, template: str, syntax: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert syntax_of(shown(policy, TEMPLATES[template], monkeypatch)) == syntax


def test_a_specialist_and_a_policy_without_a_word_on_it_write_lines(make_model: Any) -> None:
    specialist = GGUFPolicy(make_model(task="game24"))
    assert syntax_of(specialist) == REACT == syntax_of(FakePolicy(lambda question, prefix: []))
    assert grammar_of(specialist, SCHEMAS, REACT) is None
    specialist.close()


SUM = '{"name": "add", "arguments": {"first": 1, "second": 2}}'
WORD = '{"name": "calculator", "arguments": {"expression": "1+1"}}'


@pytest.mark.parametrize(
    ("syntax", "text", "fits"),
    [
        (JsonCalls(), "I think.", True),
        (JsonCalls(), f"I add. Action: {SUM}", True),
        (JsonCalls(), f"Action: {SUM}; {WORD}", True),
        (JsonCalls(), "Action: Finish[3]", False),
        (JsonCalls(), 'Action: {"name": "serach"', False),
        (JsonCalls(), 'Action: {"name": "add", "arguments": {"first": "one"', False),
        (JsonCalls(), 'Action: {"name": "calculator", "arguments": {"expression": "1\n', False),
        (JsonCalls(), f"Action: {SUM} and", False),
        (JsonCalls("<tool_call>", "</tool_call>"), f"So <tool_call>{SUM}</tool_call>", True),
        (
            JsonCalls("<tool_call>", "</tool_call>"),
            f"<tool_call>{SUM}</tool_call><tool_call>{WORD}</tool_call>",
            True,
        ),
        (JsonCalls("<tool_call>", "</tool_call>"), f"<tool_call>\n{SUM}\n</tool_call>", False),
    ],
)
def test_a_grammar_takes_steps_whose_calls_are_well_formed_on_one_line(
    policy: GGUFPolicy, syntax: JsonCalls, text: str, fits: bool
) -> None:
    written = grammar_of(policy, SCHEMAS, syntax)
    assert written is not None
    grammar = Grammar(policy.file, written)
    for value in text.encode():
        token = next(one for one in range(policy.file.size) if policy.file.piece(one) == bytes([value]))
        if not grammar.allows(token):
            break
        grammar.accept(token)
    else:
        value = -1
    end = next(token for token in range(policy.file.size) if policy.file.ends(token))
    assert (value == -1 and grammar.allows(end)) is fits
    if fits:
        assert all(isinstance(one, Call) for one in Toolbox(BOX.tools, syntax=syntax).asked(text))
    grammar.close()


def test_a_model_without_sense_writes_calls_that_can_be_made(policy: GGUFPolicy) -> None:
    box = Toolbox([add], syntax=OFTEN)
    decoding = replace(policy.decoding, grammar=grammar_of(policy, list(box.schemas.items()), OFTEN))
    messages = (Message(role="user", content="what is it"),)
    requests = [Request(messages, "", 80, seed, stop=("\n",), decoding=decoding) for seed in range(120)]
    ended = [one.text for one in policy.generate(requests) if one.finish in ("stop", "end")]
    asked = [box.asked(text) for text in ended]
    assert all(isinstance(one, Call) for calls in asked for one in calls)
    assert sum(map(bool, asked)) >= 3, "or nothing was tested"


@pytest.mark.slow
def test_a_search_by_such_a_model_calls_its_tools(make_model: Any) -> None:
    policy, tools = GGUFPolicy(make_model(context=1024)), Toolbox([add], syntax=OFTEN)
    said: list[str] = []
    for seed in range(3):
        steps, budget = Steps(max_tokens=400), Budget(tokens=800)
        reasoner = create_react(policy, tools=tools, steps=steps, temperature=1.0, budget=budget, seed=seed)
        state = reasoner.invoke(ask(), output_keys=["thoughts"])
        said += [one["text"] for one in state["thoughts"].values() if one.get("operator") == "act"]
    policy.close()
    assert said and all(re.fullmatch(r"Observation: (\[[0-9]+\] )?-?[0-9].*", one) for one in said)


def test_a_schema_of_which_no_grammar_can_be_made_is_left_to_the_reader(policy: GGUFPolicy) -> None:
    huge = {"type": "object", "properties": {"x": {"type": "string", "minLength": 10**6}}}
    assert grammar_of(policy, [("huge", huge)], JsonCalls()) is None
