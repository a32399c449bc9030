"""A long chain of thought: chains derived by hand, budget forcing, two ways to think, and bad replies."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import Budget, FakePolicy, FakeValue, Steps, ThoughtGraph
from rlm_agent.graphs.long_chain import create_long_chain
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply, Script
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Message
from rlm_agent.operators.rules.think import THINK, Forcing, answer, stretches, think, thinks_on
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.steps import Checked
from tests.graphs.scripts import STEPS, accepts, ask, grown, thread, wander
from tests.structure.trees import plant

PLENTY = Budget(calls=1000)


def script(replies: dict[str, Reply]) -> Script:
    """The reply to an assistant's turn that ends so, the longest ending first."""

    def reply(question: str, prefix: str) -> list[Reply]:
        ending = max((ending for ending in replies if prefix.endswith(ending)), key=len)
        return [replies[ending]]

    return reply


def thought(policy: FakePolicy, **keywords: Any) -> tuple[ThoughtGraph, dict[str, Any]]:
    """The chain after one question, and the values of the final state."""
    common: dict[str, Any] = {"budget": PLENTY, "seed": 5}
    reasoner = create_long_chain(policy, **{**common, **keywords}, checkpointer=InMemorySaver())
    reasoner.invoke(ask(), thread())
    values = reasoner.get_state(thread()).values
    return grown(values), values


def told(values: dict[str, Any]) -> list[str]:
    lines: list[str] = values["messages"][-1].additional_kwargs["reasoning_content"].split("\n")
    return lines


PLAIN: dict[str, Reply] = {
    "<think>\n": ("one and one is two ", -1.0),
    "Wait": (", is it? Yes.", -1.0),
    "</think>\n\n": ("It is \\boxed{2}", -1.0, True),
    "Final Answer: ": ("\\boxed{3}", -1.0, True),
}


def test_a_chain_thinks_between_tags_and_then_answers() -> None:
    """Two requests: the thinking behind the opened tag up to the closing one, and the answer behind that."""
    policy = FakePolicy(script(PLAIN))
    graph, values = thought(policy)
    first, last = policy.requests
    assert (first.prefix, first.stop, first.max_tokens) == ("<think>\n", ("</think>",), 2048)
    assert (last.prefix, last.stop, last.max_tokens) == ("<think>\none and one is two\n</think>\n\n", (), 512)
    assert values["answer"] == "2"
    assert told(values) == ["one and one is two", "It is \\boxed{2}"]
    thinking, answering = graph.path(values["run"]["best"])[1:]
    assert graph.thoughts[thinking].get("operator") == THINK
    assert graph.thoughts[answering].get("base") == graph.root and "operator" not in graph.thoughts[answering]


def test_an_end_is_put_off_as_often_as_asked_and_the_wait_is_part_of_the_thinking() -> None:
    policy = FakePolicy(script(PLAIN))
    graph, values = thought(policy, waits=2)
    assert [request.prefix for request in policy.requests] == [
        "<think>\n",
        "<think>\none and one is two\nWait",
        "<think>\none and one is two\nWait, is it? Yes.\nWait",
        "<think>\none and one is two\nWait, is it? Yes.\nWait, is it? Yes.\n</think>\n\n",
    ]
    assert told(values)[1:3] == ["Wait, is it? Yes."] * 2 and values["answer"] == "2"
    assert len(stretches(graph)) == 3


def test_thinking_that_uses_up_its_tokens_is_closed_and_the_answer_asked_for() -> None:
    """Of "one and one is two" and its end, six tokens, four are allowed: the thinking is cut, not lost."""
    policy = FakePolicy(script(PLAIN))
    graph, values = thought(policy, thinking=4, waits=9)
    assert policy.requests[0].max_tokens == 4
    assert policy.requests[1].prefix == "<think>\none and one is\n</think>\n\nFinal Answer: "
    assert values["answer"] == "3" and told(values)[0] == "one and one is"
    assert [graph.thoughts[id].get("operator") for id in graph.walk()] == [None, "think", "hurry"]


def test_the_tokens_of_all_waits_together_stay_within_the_thinking_budget() -> None:
    """6 + 5 tokens leave 1 of 12 for the third stretch, which is cut; then the answer is hurried."""
    policy = FakePolicy(script(PLAIN))
    graph, values = thought(policy, thinking=12, waits=9)
    assert [graph.thoughts[id]["tokens"] for id in stretches(graph)] == [6, 5, 1]
    assert values["answer"] == "3"


def test_no_thinking_at_all_asks_for_the_answer_at_once() -> None:
    policy = FakePolicy(script(PLAIN))
    _, values = thought(policy, thinking=0)
    assert [request.prefix for request in policy.requests] == ["<think>\n</think>\n\nFinal Answer: "]
    assert values["answer"] == "3"


@pytest.mark.parametrize(
    ("budget", "prefixes"),
    [
        (Budget(calls=1), ["<think>\n</think>\n\nFinal Answer: "]),
        (Budget(nodes=1), ["<think>\n</think>\n\nFinal Answer: "]),
        (Budget(tokens=515), ["<think>\n", "<think>\none and one\n</think>\n\nFinal Answer: "]),
    ],
    ids=["calls", "nodes", "tokens"],
)
def test_the_answer_is_kept_a_place_in_any_budget(budget: Budget, prefixes: list[str]) -> None:
    """An answer may take 512 tokens, which leaves three of 515 for thinking."""
    policy = FakePolicy(script(PLAIN))
    _, values = thought(policy, budget=budget)
    assert [request.prefix for request in policy.requests] == prefixes
    assert values["answer"] == "3"


def test_tags_and_words_are_the_callers_and_tags_that_are_repeated_are_taken_off() -> None:
    replies: dict[str, Reply] = {
        "": (" [T]hm", -1.0),
        "Hold on": ("!", -1.0),
        "[/T]\n\n": ("more[/T]the answer is 7", -1.0, True),
    }
    policy = FakePolicy(script(replies))
    _, values = thought(policy, think_open="[T]", think_close="[/T]", wait="Hold on", waits=1, hurry="")
    assert policy.requests[-1].prefix == "[T]\nhm\nHold on!\n[/T]\n\n"
    assert told(values) == ["hm", "Hold on!", "the answer is 7"] and values["answer"] == "7"


def test_a_template_that_opens_the_thinking_itself_is_left_to_it() -> None:
    policy = FakePolicy(script({"": ("hm", -1.0), "</think>\n\n": ("7", -1.0, True)}))
    _, values = thought(policy, think_open="")
    assert [request.prefix for request in policy.requests] == ["", "hm\n</think>\n\n"]
    assert values["answer"] == "7"


def test_the_answer_is_cut_and_checked_as_steps_and_the_thinking_is_not() -> None:
    """The checker counts; it refuses everything that is not the next number, and knows of no thinking."""

    def check(question: str, state: str | None, step: str) -> Checked:
        number = int(state or 0) + 1
        return Checked(state=str(number), final=number == 3) if step == str(number) else Checked(reason="no")

    replies: dict[str, Reply] = {
        "<think>\n": ("one\n\ntwo", -1.0),
        "</think>\n\n": ("1", -1.0),
        "1\n": ("2", -1.0),
        "2\n": ("3", -1.0),
    }
    value = FakeValue(lambda steps: 0.5)
    graph, values = thought(FakePolicy(script(replies)), steps=Steps(check=check), value=value)
    assert values["answer"] == "3" and told(values) == ["one", "", "two", "1", "2", "3"]
    assert graph.steps(values["run"]["best"]) == ["1", "2", "3"]
    assert [candidate.steps for candidate in value.candidates] == [("1",), ("1", "2"), ("1", "2", "3")]


def test_a_later_step_of_a_hurried_answer_continues_the_same_turn() -> None:
    replies: dict[str, Reply] = {"Final Answer: ": ("first", -1.0), "first\n": ("last", -1.0, True)}
    policy = FakePolicy(script(replies))
    _, values = thought(policy, thinking=0, steps=Steps())
    assert policy.requests[-1].prefix == "<think>\n</think>\n\nFinal Answer: first\n"
    assert values["answer"] == "last"


@pytest.mark.parametrize("reply", ["", "  "])
def test_a_model_that_thinks_nothing_still_answers(reply: str) -> None:
    policy = FakePolicy(script({**PLAIN, "<think>\n": (reply, -1.0)}))
    graph, values = thought(policy, waits=3)
    assert values["answer"] == "2" and len(policy.requests) == 2
    assert policy.requests[-1].prefix == "<think>\n</think>\n\n"
    assert [graph.thoughts[id].get("reason") for id in stretches(graph)] == ["an empty step"]


def test_thinking_that_fails_in_the_middle_is_answered_from_what_there_is() -> None:
    policy = FakePolicy(script(PLAIN), fails={1: "connection reset"})
    _, values = thought(policy, waits=3)
    assert policy.requests[-1].prefix == "<think>\none and one is two\n</think>\n\n"
    assert values["answer"] == "2"


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ({"</think>\n\n": ("I do not know", -1.0, True)}, "ended without an answer"),
        ({"</think>\n\n": ("word " * 600, -1.0, True)}, "cut off after 512 tokens"),
    ],
)
def test_an_answer_that_cannot_be_used_is_said_to_be_none(replies: dict[str, Reply], reason: str) -> None:
    graph, values = thought(FakePolicy(script({**PLAIN, **replies})))
    assert values["answer"] is None
    assert [one["reason"] for one in graph.thoughts.values() if "reason" in one] == [reason]


def test_what_the_thinking_did_is_told_after_the_search() -> None:
    replies = {**PLAIN, "<think>\n": ("Two. Wait, is it? Let me start over. So far two.", -1.0)}
    reasoner = create_long_chain(FakePolicy(script(replies)), seed=1)
    events = list(reasoner.stream(ask(), stream_mode="custom"))
    assert [event["operator"] for event in events if event["event"] == "span"] == [
        "generate", "critique", "backtrack", "summarise", "generate",
    ]  # fmt: skip
    assert events[-1]["event"] == "answer"


class Plain:
    """Thinking and answering as a plain loop over the operators."""

    def __init__(self, policy: FakePolicy, seed: int, forcing: Forcing) -> None:
        message = Message(role="user", content="where to?")
        decoding = policy.decoding
        self.setting = Setting(policy, (message,), seed, STEPS, decoding=decoding)
        self.forcing = forcing
        self.graph = plant("where to?")

    def run(self) -> None:
        tip = self.graph.root
        while True:
            left = self.forcing.left(self.graph, self.setting, Allowance())
            act = think if thinks_on(self.graph, tip, self.forcing, left) else answer
            outcome = drive(act(self.graph, tip, self.forcing, self.setting, Allowance()))
            self.graph = self.graph.updated(outcome.writes)
            (tip,) = outcome.outputs
            if self.graph.thoughts[tip]["kind"] != "step" and act is answer:
                return


@pytest.mark.parametrize("seed", range(6))
def test_a_plain_loop_over_the_operators_writes_the_same_chain(seed: int) -> None:
    graph, _ = thought(FakePolicy(wander), thinking=12, waits=2, steps=STEPS, seed=seed, temperature=1.0)
    plain = Plain(FakePolicy(wander), seed, Forcing(thinking=12, waits=2))
    plain.run()
    assert plain.graph.thoughts == graph.thoughts


@settings(max_examples=30)
@given(
    tokens=st.none() | st.integers(1, 60),
    calls=st.integers(1, 12),
    nodes=st.none() | st.integers(1, 12),
    thinking=st.integers(1, 20),
    waits=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_neither_the_budget_nor_the_thinking_is_exceeded(
    tokens: int | None, calls: int, nodes: int | None, thinking: int, waits: int, seed: int
) -> None:
    policy = FakePolicy(wander)
    graph, values = thought(
        policy,
        budget=Budget(tokens=tokens, calls=calls, nodes=nodes),
        thinking=thinking,
        waits=waits,
        steps=STEPS,
        seed=seed,
        temperature=1.0,
    )
    usage = values["usage"]
    assert len(policy.requests) == usage["model_calls"] == usage["nodes"] <= calls
    assert nodes is None or usage["nodes"] <= nodes
    assert tokens is None or usage["completion_tokens"] <= tokens
    assert sum(graph.thoughts[id]["tokens"] for id in stretches(graph)) <= thinking
    assert len(stretches(graph)) <= waits + 1


@pytest.mark.parametrize(
    "parameters", [{"thinking": -1}, {"waits": -1}, {"think_close": ""}, {"thinking": 0, "waits": 1}]
)
def test_parameters_that_make_no_chain_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"make no chain; give|closes no thinking; give"):
        create_long_chain(FakePolicy(wander), **parameters)


class Specialist(FakePolicy):
    """Knows the chain of action-thought of the Game of 24 and nothing else."""

    prompts = Prompts.lacking(coat="{question}\ncoat")

    def __init__(self, lines: Sequence[Reply], **keywords: Any) -> None:
        """Each line is what follows so many lines; what begins it may have been put in its mouth."""
        super().__init__(lambda question, prefix: [lines[prefix.count("\n")]], task="game24", **keywords)


def solved(lines: Sequence[Reply], **keywords: Any) -> tuple[ThoughtGraph, dict[str, Any], FakePolicy]:
    policy = Specialist(lines)
    reasoner = create_long_chain(
        policy, **{"budget": PLENTY, "seed": 1, **keywords}, checkpointer=InMemorySaver()
    )
    reasoner.invoke(ask("4 9 10 13 : 24"), thread())
    values = reasoner.get_state(thread()).values
    return grown(values), values, policy


WRONG: list[Reply] = [
    ("<|continue|>13 - 9 = 4 | 4 4 10", -1.0),
    ("<|continue|>10 + 4 = 14 | 4 14", -1.0),
    ("<|continue|>14 + 4 = 18", -1.0, True),
]
MENDED: list[Reply] = [
    *WRONG,
    ("back to 1", -1.0),
    ("<|explore|>10 - 4 = 6 | 4 6", -1.0),
    ("<|continue|>6 * 4 = 24", -1.0, True),
]


def test_a_specialist_reflects_where_its_end_is_put_off() -> None:
    """The first end, 18, is wrong; "<|reflect|>" is put in its mouth, and it goes back to its first step."""
    graph, values, policy = solved(MENDED, waits=1)
    assert values["run"]["stopped"] == "verified" and values["answer"] == "(10 - 4) * (13 - 9)"
    assert policy.requests[0].messages[-1]["content"] == "4 9 10 13 : 24\ncoat"
    assert policy.requests[3].prefix.endswith("14 + 4 = 18\n<|reflect|>")
    texts = [graph.thoughts[id]["text"] for id in graph.path(values["run"]["best"])[1:]]
    assert texts[3] == "<|reflect|>back to 1" and told(values) == texts


def test_a_specialist_whose_end_is_not_put_off_answers_with_it() -> None:
    _, values, policy = solved(MENDED)
    assert len(policy.requests) == 3 and values["run"]["verified"] is False
    assert values["answer"] == "(10 + 4) + (13 - 9)"


def test_the_lines_of_a_specialist_are_told_as_operators() -> None:
    reasoner = create_long_chain(Specialist(MENDED), waits=1, seed=1)
    events = list(reasoner.stream(ask("4 9 10 13 : 24"), stream_mode="custom"))
    operators = [event["operator"] for event in events if event["event"] == "operator"]
    written = [operator for operator in operators if operator not in ("select", "evaluate")]
    assert written == ["generate"] * 3 + ["critique", "backtrack"] + ["generate"] * 2


def test_the_thinking_budget_bounds_the_chain_of_a_specialist() -> None:
    """A line is about eight words; the second one is cut off, and there is no answer."""
    graph, values, _ = solved(WRONG, thinking=12)
    assert values["answer"] is None
    assert sum(one["tokens"] for one in graph.thoughts.values()) <= 12


def test_a_line_that_is_refused_ends_the_chain_with_the_answer_that_there_was() -> None:
    _, values, _ = solved([*WRONG, ("back to 7", -1.0)], waits=1)
    assert values["answer"] == "(10 + 4) + (13 - 9)" and values["run"]["stopped"] == "exhausted"


def test_of_two_rejected_answers_of_a_specialist_the_last_counts() -> None:
    _, values, _ = solved([*MENDED[:-1], ("<|continue|>6 + 4 = 10", -1.0, True)], waits=1)
    assert values["answer"] == "(10 - 4) + (13 - 9)" and values["run"]["verified"] is False


@pytest.mark.parametrize("steps", ["game24", None])
def test_the_tagged_steps_of_the_task_are_taken_whatever_names_it(steps: str | None) -> None:
    assert solved(MENDED, waits=1, steps=steps)[1]["run"]["verified"] is True


def test_a_specialist_without_the_words_is_refused_at_once() -> None:
    class Plainly(FakePolicy):
        prompts = Prompts.lacking()

    policy = Plainly(wander, task="game24")
    with pytest.raises(InputError, match="has not learned to coat; use a general model"):
        create_long_chain(policy)
    assert not policy.requests


def test_a_specialist_without_tokens_to_think_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="thinking=0 leaves nothing"):
        create_long_chain(Specialist(WRONG), thinking=0)


def test_a_verifier_ends_the_search_and_a_rejected_answer_is_still_one() -> None:
    _, values = thought(FakePolicy(script(PLAIN)), verifier=accepts("2"))
    assert values["run"]["stopped"] == "verified" and values["answer"] == "2"
    _, values = thought(FakePolicy(script(PLAIN)), verifier=accepts("9"))
    assert values["run"]["stopped"] == "exhausted" and values["answer"] == "2"
