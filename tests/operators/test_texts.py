"""Whole texts: where they stand, what is read from a reply, and how many an allowance covers."""

from typing import Any

import pytest

from rlm_agent import FakePolicy, Steps
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Message
from rlm_agent.operators.operations.texts import Asked, Parser, Reading, lineage, text_of, write
from rlm_agent.operators.setting import Outcome, Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.formats import WHOLE
from rlm_agent.structure.ids import child_id, derive_seed
from rlm_agent.structure.thoughts import ThoughtGraph
from tests.structure.trees import graft, plant

QUESTION = (Message(role="user", content="q"),)


def echo(question: str, prefix: str) -> list[Reply]:
    """The last word of the question, and an end."""
    return [(question.split()[-1], -1.0, True)]


def setting(**keywords: Any) -> Setting:
    return Setting(FakePolicy(echo), QUESTION, 7, Steps(format=WHOLE, max_tokens=4), **keywords)


def standing() -> tuple[ThoughtGraph, str]:
    """A graph in which a closed thought stands for an operation."""
    return graft(plant(), plant().root, "operation", closed=True)


def wrote(count: int, reading: Reading, allowance: Allowance | None = None) -> tuple[ThoughtGraph, Outcome]:
    """The graph and the outcome after `count` texts, "0", "1", … have been asked for."""
    graph, node = standing()
    asked = [Asked(setting().put(f"{{question}} {number}")) for number in range(count)]
    outcome = drive(write(graph, node, asked, reading, allowance or Allowance()))
    return graph.updated(outcome.writes), outcome


def test_texts_are_children_of_what_stands_for_their_operation_and_go_on_from_the_root() -> None:
    graph, outcome = wrote(2, Reading("generate"))
    _, node = standing()
    assert outcome.outputs == graph.children(node) == [child_id(node, 0), child_id(node, 1)]
    assert [graph.steps(id) for id in outcome.outputs] == [["0"], ["1"]]
    assert {graph.thoughts[id]["depth"] for id in outcome.outputs} == {1}
    assert [event["operator"] for event in outcome.trace] == ["generate"]


def test_every_draw_has_a_seed_of_its_own() -> None:
    graph, node = standing()
    policy = FakePolicy(echo)
    asked = [Asked(Setting(policy, QUESTION, 7, Steps(format=WHOLE)))] * 3
    drive(write(graph, node, asked, Reading("generate", list, parts=1), Allowance(tokens=200)))
    seeds = [request.seed for request in policy.requests]
    assert seeds == [derive_seed(7, child_id(node, index)) for index in range(3)]


@pytest.mark.parametrize(("answers", "kind"), [(True, "final"), (False, "step")])
def test_a_solution_ends_a_chain_and_a_part_does_not(answers: bool, kind: str) -> None:
    graph, outcome = wrote(1, Reading("generate", answers=answers))
    (id,) = outcome.outputs
    assert graph.thoughts[id]["kind"] == kind
    assert graph.thoughts[id].get("answer") == ("0" if answers else None)


@pytest.mark.parametrize(
    ("allowance", "count"),
    [(Allowance(calls=3), 3), (Allowance(nodes=2), 2), (Allowance(tokens=4), 2), (Allowance(seconds=0), 0)],
)
def test_batch_follows_batch_until_the_allowance_is_spent(allowance: Allowance, count: int) -> None:
    """A text takes two of the four tokens that it may, so that a second batch finds room for another one."""
    _, outcome = wrote(9, Reading("generate"), allowance)
    assert len(outcome.outputs) == outcome.usage["model_calls"] == count


@pytest.mark.parametrize(
    ("parse", "parts", "texts"),
    [
        (lambda text: text + "!", 1, ["0!"]),
        (lambda text: [text], 1, ["0"]),
        (lambda text: [text, text * 2], 2, ["0", "00"]),
        (lambda text: (text for _ in range(3)), 3, ["0", "0", "0"]),
    ],
)
def test_a_parser_takes_what_it_wants_from_a_reply(parse: Parser, parts: int, texts: list[str]) -> None:
    graph, outcome = wrote(1, Reading("generate", parse, parts))
    assert [graph.thoughts[id]["text"] for id in outcome.outputs] == texts
    assert [graph.thoughts[id]["tokens"] for id in outcome.outputs] == [2, *[0] * (parts - 1)]
    assert outcome.usage["nodes"] == parts and outcome.usage["model_calls"] == 1


def test_the_root_says_the_question() -> None:
    assert text_of(plant("why?"), plant().root, setting()) == "why?"


def test_the_lineage_of_a_text_is_all_that_it_was_made_of() -> None:
    graph, node = standing()
    made: list[str] = []
    for parents in ((), (), (0,), (0, 2)):
        asked = [Asked(setting(), tuple(made[parent] for parent in parents))]
        outcome = drive(write(graph, node, asked, Reading("generate"), Allowance()))
        graph = graph.updated(outcome.writes)
        made += outcome.outputs
    assert lineage(graph, made[3]) == [made[0], made[2], made[3]]
    assert lineage(graph, made[1]) == [made[1]]
