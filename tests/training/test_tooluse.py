"""What `mini-tools` learns: calls that the real tools answer as in the examples, and nothing held out."""

import random
from collections.abc import Callable
from itertools import islice, pairwise
from typing import Any

import pytest
import torch
from langgraph.checkpoint.memory import InMemorySaver
from tokenizers import Tokenizer

from rlm_agent import Budget, Calculator, FakePolicy, GGUFPolicy, create_react
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Message
from rlm_agent.structure.errors import UnknownNameError
from rlm_agent.tasks.calculations import Calculated
from rlm_agent.tasks.catalogue.collection import collection
from rlm_agent.tasks.registry import get_task
from rlm_agent.tools.actions import OBSERVATION, Call, read_action, read_finish
from rlm_agent.tools.calling import ERROR
from rlm_agent.training.decoder import Decoder, DecoderConfig
from rlm_agent.training.export import export_gguf
from rlm_agent.training.lookups import ANOTHER, SEARCH
from rlm_agent.training.recipe import CONTEXT, get_recipe
from rlm_agent.training.rows import rows
from rlm_agent.training.skills import Example, Line
from rlm_agent.training.tokenizer import EOS, encode, train_digit_tokenizer
from rlm_agent.training.tooluse import examples, worked

TOOLS = ("calculator", SEARCH)


@pytest.fixture(scope="module")
def stream() -> list[Example]:
    return list(islice(examples(0), 3000))


@pytest.fixture(scope="module")
def tokenizer(stream: list[Example]) -> Tokenizer:
    return train_digit_tokenizer("\n".join(line.text for line in example) for example in stream)


def answered(example: Example) -> list[tuple[Line, list[Line]]]:
    """The lines after the question that are no observation, each with the observations that follow it."""
    found: list[tuple[Line, list[Line]]] = []
    for line in example[1:]:
        if not line.text.startswith(OBSERVATION):
            found.append((line, []))
        elif found:
            found[-1][1].append(line)
    return found


def replayed(example: Example) -> tuple[list[str], str | None]:
    """The steps and the answer where a policy writes the learned lines, and a search says what they show."""
    own = [line.text for line in example[1:] if not line.text.startswith(OBSERVATION)]
    told = {
        action.argument: texts[0].text.removeprefix(OBSERVATION)
        for line, texts in answered(example)
        if isinstance(action := read_action(line.text, TOOLS), Call) and action.name == SEARCH
    }

    def search(query: str) -> str:
        """Finds."""
        return told[query]

    def tells(question: str, prefix: str) -> list[Reply]:
        written = [line for line in prefix.splitlines() if not line.startswith(OBSERVATION)]
        return [(own[len(written)], -0.5)]

    task, saver = get_task("words"), InMemorySaver()
    policy, budget = FakePolicy(tells), Budget(calls=100)
    common: dict[str, Any] = {"steps": task.steps, "budget": budget, "seed": 0, "checkpointer": saver}
    reasoner = create_react(policy, tools=[Calculator(), search], **common)
    values = reasoner.invoke({"messages": [("user", example[0].text)]}, {"configurable": {"thread_id": "1"}})
    thoughts = reasoner.get_state({"configurable": {"thread_id": "1"}}).values["thoughts"]
    return [thought["text"] for thought in thoughts.values()][1:], values.get("answer")


def test_examples_are_the_same_for_the_same_seed(stream: list[Example]) -> None:
    assert list(islice(examples(0), 50)) == stream[:50]
    assert list(islice(examples(1), 50)) != stream[:50]


def test_the_model_writes_calls_and_finishes_and_never_an_observation(stream: list[Example]) -> None:
    for example in stream:
        assert not example[0].learned and not example[0].text.startswith(OBSERVATION)
        for line in example[1:]:
            if line.text.startswith(OBSERVATION):
                assert not line.learned
            elif line.learned:
                action = read_action(line.text, TOOLS)
                ends = read_finish(line.text) is not None
                assert isinstance(action, Call) or ends or line.text == ANOTHER
                assert line.ends is ends


def test_what_follows_a_calculation_is_what_the_calculator_says(stream: list[Example]) -> None:
    calculator, checked = Calculator(), 0
    for example in stream:
        for line, told in answered(example):
            action = read_action(line.text, TOOLS)
            if isinstance(action, Call) and action.name == "calculator" and line.learned:
                assert [one.text for one in told] == [OBSERVATION + calculator.call(action.argument)]
                checked += 1
    assert checked > 3000


def test_the_real_strategy_with_the_real_calculator_writes_the_examples(stream: list[Example]) -> None:
    """Those in which every search has one passage and the end is reached: the others differ in that alone."""
    plain = [
        example
        for example in stream[:120]
        if example[-1].ends
        and all(len(told) == 1 for line, told in answered(example)[:-1] if line.text != ANOTHER)
        and not example[1].text.startswith(OBSERVATION)
    ]
    assert len(plain) > 60
    for example in plain[:40]:
        steps, answer = replayed(example)
        assert steps == [line.text for line in example[1:]]
        assert answer == (read_finish(example[-1].text) or None)


def test_a_search_that_misleads_is_told_apart_from_one_that_finds(stream: list[Example]) -> None:
    outcomes = {"right": 0, "wrong": 0}
    for example in stream:
        lines = answered(example)
        for (line, told), (following, _) in pairwise(lines):
            if not line.text.startswith("Action:") or ERROR in told[0].text or "(nothing)" in told[0].text:
                continue
            outcomes["wrong" if following.text == ANOTHER else "right"] += 1
            assert (following.text == ANOTHER) is (told[-1].reach is False)
    assert outcomes["wrong"] > 300 and outcomes["right"] > 1000


def test_nothing_that_is_held_out_is_trained_on(stream: list[Example]) -> None:
    told = {line.text for example in stream for line in example}
    held_out = {problem.text for problem in get_task("words").sample("test", 500, 0)}
    assert not held_out & told
    said = " ".join(told)
    assert "the Gux " in said
    assert not [one.query for one in collection() if f" {one.brand} " in said]


def test_excluded_questions_do_not_appear() -> None:
    first = next(iter(examples(5, calls=False)))
    again = next(iter(examples(5, calls=False, excluded=[first[0].text])))
    assert again[0].text != first[0].text


def test_without_calls_the_same_problem_has_the_results_in_the_models_own_words() -> None:
    problem: Calculated = next(get_task("words").draw("train", random.Random(0)))  # type: ignore[assignment]
    own, calling = worked(problem, calls=False), worked(problem)
    assert all(line.learned for line in own[1:])
    for one, line in zip(problem.calculations, own[1:], strict=False):
        assert line.text == f"{one.label} <<{one.expression}={one.result}>>"
        assert read_action(line.text, TOOLS) is None
    assert own[-1] == calling[-1] and len(calling) == 2 * len(own) - 2
    stream = list(islice(examples(0, calls=False), 200))
    assert not any(line.text.startswith((OBSERVATION, "Action:")) for one in stream for line in one)


def test_most_examples_fit_the_context(stream: list[Example], tokenizer: Tokenizer) -> None:
    kept = list(rows(iter(stream), tokenizer, longest=CONTEXT))
    assert len(kept) > 0.97 * len(stream)
    limit = get_task("catalogue").steps.longest
    own = [line.text for example in stream for line in example if line.learned]
    assert max(len(encode(tokenizer, text)) for text in own) < limit


def test_each_digit_is_a_token_of_its_own(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("17*4.05").tokens == [*"17*4.05"]
    tokens = tokenizer.encode("costs 1776, 30% of 98765.10.").tokens
    assert not [token for token in tokens if len(token) > 1 and any(letter.isdigit() for letter in token)]


def test_rows_are_what_the_policy_is_given(
    stream: list[Example], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    torch.manual_seed(0)
    sizes = {"width": 32, "layers": 1, "heads": 2, "feed_forward": 32, "context": CONTEXT}
    path = tmp_path_factory.mktemp("tools") / "model.gguf"
    model = Decoder(DecoderConfig(vocabulary=tokenizer.get_vocab_size(), **sizes))
    export_gguf(model, tokenizer, path, identity=get_recipe("tools").identity)
    policy = GGUFPolicy(path)
    eos, asked = tokenizer.token_to_id(EOS), [one for one in stream[:200] if one[-1].ends]
    for example, row in zip(asked, rows(iter(asked), tokenizer, longest=10_000), strict=True):
        reply = "\n".join(line.text for line in example[1:])
        question = [Message(role="user", content=example[0].text)]
        assert [*policy.prompt(question, reply), eos] == row.tokens, example
    policy.close()


@pytest.mark.parametrize("name", ["mini", "tools", "no-calls"])
def test_each_recipe_has_examples_of_its_own(name: str) -> None:
    recipe = get_recipe(name)
    stream: Callable[..., Any] = recipe.examples
    assert list(islice(stream(3), 3)) == list(islice(stream(3, excluded=[]), 3))


def test_unknown_recipe_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="choose one of mini, tools, no-calls"):
        get_recipe("large")
