"""What a human's edits make of a graph: by hand, all or nothing, and never an inconsistent one."""

import copy
import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent import FakePolicy, Steps, Verdict
from rlm_agent.models.protocols import Message
from rlm_agent.operators.backpropagate import average
from rlm_agent.operators.edit import edit
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance, no_usage
from rlm_agent.structure.consistency import check_graph
from rlm_agent.structure.errors import EditError
from rlm_agent.structure.formats import BOXED, WHOLE
from rlm_agent.structure.ids import child_id
from rlm_agent.structure.steps import Checked
from rlm_agent.structure.thoughts import ThoughtGraph
from tests.structure.trees import graft, grown, marked, plant

TREE = {"q": ["a", "b"], "a": ["aa", "ab"]}


def setting(verifier: Any = None, **steps: Any) -> Setting:
    policy = FakePolicy(lambda question, prefix: [])
    return Setting(policy, (Message(role="user", content="q"),), 7, Steps(**steps), verifier=verifier)


def after(graph: ThoughtGraph, *edits: Any, nodes: float = math.inf, **steps: Any) -> ThoughtGraph:
    return graph.updated(edit(graph, list(edits), setting(**steps), Allowance(nodes=nodes)).writes)


def refused(graph: ThoughtGraph, *edits: Any, **keywords: Any) -> list[str]:
    before = copy.deepcopy((dict(graph.thoughts), dict(graph.stats)))
    with pytest.raises(EditError) as error:
        after(graph, *edits, **keywords)
    assert (dict(graph.thoughts), dict(graph.stats)) == before
    return error.value.refused


def consistent(graph: ThoughtGraph) -> None:
    run: dict[str, Any] = {"root": graph.root, "best": None, "plan": [], "fresh": []}
    check_graph(dict(graph.thoughts), dict(graph.stats), run)


def test_a_thought_is_added_as_the_next_child_and_costs_a_node_and_no_tokens() -> None:
    graph, ids = grown(TREE)
    outcome = edit(graph, [{"add": ids["a"], "text": " ac\n"}], setting(), Allowance())
    id = child_id(ids["a"], 2)
    assert outcome.outputs == [id] and outcome.usage == {**no_usage(), "nodes": 1}
    assert outcome.trace[0] == {
        "event": "operator",
        "operator": "edit",
        "inputs": [ids["a"]],
        "outputs": [id],
        "model_calls": 0,
        "tokens": 0,
    }
    thought = outcome.writes.thoughts[id]
    assert (thought["text"], thought["depth"], thought["kind"]) == ("ac", 2, "step")
    assert (thought["operator"], thought["tokens"], thought["logprob"]) == ("human", 0, 0.0)
    consistent(graph.updated(outcome.writes))


def test_the_step_checker_gives_an_added_thought_its_state_or_ends_the_chain_with_it() -> None:
    def check(question: str, state: str | None, step: str) -> Checked:
        if step == "bad":
            return Checked(reason="it is bad")
        return Checked(state=f"{state or ''}{step}", final=step == "end")

    graph, a = graft(plant(), plant().root, "a", state="a")
    grown_graph = after(graph, {"add": a, "text": "b"}, {"add": a, "text": "end"}, check=check)
    one, other = (grown_graph.thoughts[id] for id in grown_graph.children(a))
    assert (one["kind"], one["state"]) == ("step", "ab")
    assert (other["kind"], other["answer"], other["state"]) == ("final", "end", "aend")
    assert refused(graph, {"add": a, "text": "bad"}, check=check) == ["edit 1: 'bad' is refused: it is bad"]


def test_an_edited_text_is_a_sibling_and_the_old_one_is_dropped_with_all_below() -> None:
    graph, ids = grown(TREE)
    edited = after(graph, {"edit": ids["a"], "text": "A"})
    new = child_id(graph.root, 2)
    assert edited.thoughts[ids["a"]] == graph.thoughts[ids["a"]]
    assert {text for text, id in ids.items() if edited.dropped(id)} == {"a", "aa", "ab"}
    assert all(edited.stats[ids[text]]["closed"] for text in ("a", "aa", "ab"))
    assert edited.thoughts[new]["text"] == "A" and not edited.stats[new]["closed"]
    consistent(edited)


def test_what_a_rewrite_stands_for_is_kept_where_thoughts_are_whole_solutions() -> None:
    """A solution added under another one goes on from the question, as a rewrite does."""
    steps: dict[str, Any] = {"format": WHOLE}
    graph, first = graft(plant(), plant().root, "one", "final", answer="one", closed=False)
    graph = after(graph, {"add": first, "text": "two"}, **steps)
    second = child_id(first, 0)
    assert graph.steps(second) == ["two"] and graph.thoughts[second]["depth"] == 1
    graph = after(graph, {"edit": second, "text": "three"}, **steps)
    third = child_id(first, 1)
    assert graph.steps(third) == ["three"] and graph.thoughts[third]["answer"] == "three"


def test_pruned_answers_are_no_ends_any_more() -> None:
    graph, one = graft(plant(), plant().root, "1", "final", answer="1")
    graph, two = graft(graph, graph.root, "2", "final", answer="2")
    assert graph.finals() == graph.ends() == [one, two]
    pruned = after(graph, {"prune": one})
    assert pruned.finals() == pruned.ends() == [two]


def test_an_exhausted_ancestor_is_open_again_above_an_open_thought() -> None:
    graph, ids = grown(TREE)
    for text in ("q", "a", "aa", "ab"):
        graph = marked(graph, ids[text], closed=True)
    edited = after(graph, {"edit": ids["ab"], "text": "ac"})
    assert {text for text, id in ids.items() if not edited.stats[id]["closed"]} == {"q", "a", "b"}


def test_particles_do_not_stand_on_what_was_pruned() -> None:
    graph, ids = grown(TREE)
    graph = marked(graph, graph.root, population={ids["aa"]: 2, ids["b"]: 1})
    assert after(graph, {"prune": ids["a"]}).stats[graph.root]["population"] == {ids["b"]: 1}


def test_a_new_value_moves_the_means_above_by_its_share_of_the_visits() -> None:
    """Returns aa ← .2 twice, ab ← −.4, b ← 1: as if aa had returned .8 twice."""
    graph, ids = grown(TREE)
    others = [(ids["ab"], -0.4), (ids["b"], 1.0)]
    before = graph.updated(average(graph, [(ids["aa"], 0.2)] * 2 + others))
    wanted = graph.updated(average(graph, [(ids["aa"], 0.8)] * 2 + others))
    edited = after(before, {"revalue": ids["aa"], "value": 0.9})
    assert edited.stats[ids["aa"]]["value"] == 0.9
    for id in ids.values():
        assert edited.stats[id]["q"] == pytest.approx(wanted.stats[id]["q"])
        assert edited.stats[id]["visits"] == wanted.stats[id]["visits"]


def test_a_new_value_of_what_nobody_visited_changes_nothing_else() -> None:
    graph, ids = grown(TREE)
    edited = edit(graph, [{"revalue": ids["aa"], "value": 0}], setting(), Allowance()).writes
    assert edited.stats == {ids["aa"]: {**graph.stats[ids["aa"]], "value": 0.0}} and not edited.thoughts


def test_the_end_of_a_search_changes_nothing() -> None:
    graph, _ = grown(TREE)
    assert not edit(graph, [{"stop": True}], setting(), Allowance()).writes.stats


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ([{"add": "no", "text": "x"}], "this question has no thought 'no'"),
        ([{"add": "F", "text": "x"}], "which ends a chain"),
        ([{"add": "X", "text": "x"}], "which was refused itself"),
        ([{"add": "C", "text": "x"}], "which is closed"),
        ([{"add": "a", "text": "x\ny"}], "more than one step"),
        ([{"add": "a", "text": "  "}], "is refused: an empty step"),
        ([{"add": "a", "text": 3}], "text: 3 is no str"),
        ([{"add": "a"}], "text is missing"),
        ([{"add": "a", "text": "x", "value": 1}], "is no field of a AddEdit"),
        ([{"add": "a", "prune": "a"}], "is no edit"),
        ([{"grow": "a"}], "is no edit; give one of add, edit, prune, revalue, stop"),
        (["prune"], "is no edit"),
        ([None], "is no edit"),
        ([{"prune": "q"}], "the question itself"),
        ([{"edit": "q", "text": "x"}], "the question itself"),
        ([{"edit": "a", "text": "a"}], "which is pruned"),
        ([{"prune": "a"}, {"prune": "aa"}], "edit 2: .* was pruned before"),
        ([{"prune": "a"}, {"add": "aa", "text": "x"}], "edit 2: .* was pruned before"),
        ([{"revalue": "a", "value": 1.5}], "no value"),
        ([{"revalue": "a", "value": True}], "True is no float"),
        ([{"revalue": "a", "value": math.nan}], "nan is no float"),
        ([{"revalue": "q", "value": 0.5}], "the question: it has no value"),
        ([{"revalue": "X", "value": 0.5}], "refused: it has no value"),
        ([{"stop": False}], "False is none of True"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason_and_nothing_is_done(
    edits: list[Any], reason: str
) -> None:
    graph, ids = grown(TREE)
    graph, ids["F"] = graft(graph, graph.root, "F", "final", answer="F")
    graph, ids["X"] = graft(graph, graph.root, "X", "failed")
    graph, ids["C"] = graft(graph, graph.root, "C", closed=True)
    verbs = ("add", "edit", "prune", "revalue")

    def named(one: Any) -> Any:
        if not isinstance(one, dict):
            return one
        return {key: ids.get(held, held) if key in verbs else held for key, held in one.items()}

    (said,) = refused(graph, *map(named, edits))
    assert re.search(reason, said), said


def test_all_reasons_are_given_at_once_and_a_good_edit_among_bad_ones_is_not_made() -> None:
    graph, ids = grown(TREE)
    said = refused(graph, {"prune": "x"}, {"prune": ids["a"]}, {"add": ids["b"], "text": ""})
    assert [one[:7] for one in said] == ["edit 1:", "edit 3:"]


def test_the_budget_of_thoughts_holds_for_humans() -> None:
    graph, ids = grown(TREE)
    adds = [{"add": ids["a"], "text": text} for text in "xy"]
    assert len(after(graph, *adds, nodes=2).thoughts) == len(graph.thoughts) + 2
    assert refused(graph, *adds, nodes=1) == ["the budget allows 1 more thoughts; raise it"]


def test_a_verified_answer_is_not_revalued_nor_is_what_is_compared() -> None:
    graph, end = graft(plant(), plant().root, "1", "final", answer="1")
    edits = [{"revalue": end, "value": 1.0}]
    judged = setting(verifier=lambda question, answer: Verdict(False))
    with pytest.raises(EditError, match="the verifier has judged"):
        edit(graph, edits, judged, Allowance())
    with pytest.raises(EditError, match="compares solutions"):
        edit(marked(graph, end, preferences={}), edits, setting(), Allowance())


def test_an_end_is_one_by_its_text_or_because_the_human_says_so() -> None:
    graph = plant()
    for one in ({"text": "so \\boxed{4}"}, {"text": "it is 4", "final": True}):
        made = after(graph, {"add": graph.root, **one}, answer_end=BOXED)
        (id,) = made.children(graph.root)
        assert (made.thoughts[id]["kind"], made.thoughts[id]["answer"]) == ("final", one["text"])


@given(st.data())
def test_any_edits_leave_a_graph_that_hangs_together(data: st.DataObject) -> None:
    graph, _ = grown(TREE)
    graph, _ = graft(graph, graph.root, "F", "final", answer="F")
    for _ in range(data.draw(st.integers(1, 6))):
        id = data.draw(st.sampled_from(sorted(graph.thoughts)))
        text = data.draw(st.sampled_from(["x", "y", "a", ""]))
        value = data.draw(st.floats(0, 1))
        one = data.draw(
            st.sampled_from(
                [
                    {"add": id, "text": text},
                    {"edit": id, "text": text},
                    {"prune": id},
                    {"revalue": id, "value": value},
                ]
            )
        )
        try:
            graph = after(graph, one)
        except EditError:
            continue
        consistent(graph)
        assert all(graph.stats[id]["closed"] for id in graph.walk() if graph.dropped(id))
    plain = {"thoughts": dict(graph.thoughts), "stats": dict(graph.stats)}
    assert json.loads(json.dumps(plain)) == plain
