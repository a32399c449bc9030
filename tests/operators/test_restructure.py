"""Merging what says the same, and a tree told as one line: walks derived by hand, and what is never told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent import FakePolicy, Steps, ThoughtGraph
from rlm_agent.models.drive import drive
from rlm_agent.models.fake import Reply
from rlm_agent.models.prompts import Prompts
from rlm_agent.models.protocols import Message
from rlm_agent.operators.restructure import (
    TAGGED,
    Turn,
    Visit,
    in_words,
    linearise,
    merge,
    smooth,
)
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.thoughts import Kind
from rlm_agent.tasks.countdown.checker import check_step
from rlm_agent.tasks.registry import get_task
from tests.structure.trees import graft, grown, marked, plant

Walk = list[tuple[str, Turn]]


def named(graph: ThoughtGraph, visits: list[Visit]) -> Walk:
    """A walk with the texts of its thoughts."""
    return [(graph.thoughts[visit.thought]["text"], visit.turn) for visit in visits]


def test_equal_siblings_merge_into_the_first_born() -> None:
    graph, _ = grown({"q": ["a", "b"]})
    graph, twin = graft(graph, graph.root, "a ")
    graph, third = graft(graph, graph.root, "a")
    graph, other = graft(graph, graph.root, "a", "failed")
    first = graph.children(graph.root)[0]
    writes = merge(graph, [twin, third, other])
    assert {id: stats["merged"] for id, stats in writes.stats.items()} == {twin: first, third: first}
    assert all(stats["closed"] for stats in writes.stats.values()) and not writes.thoughts


def test_equal_states_merge_everywhere_only_where_that_is_asked_for() -> None:
    """a leads to the states 1 and 2; b to 2, then to 1 twice. Of the fresh ones under b, nobody is first."""
    graph, ids = grown({"q": ["a", "b"]})
    graph, one = graft(graph, ids["a"], "a1", state="1")
    graph, two = graft(graph, ids["a"], "a2", state="2")
    fresh = []
    for text, state in (("b2", "2"), ("b1", "1"), ("b1'", "1"), ("b3", "3"), ("b3'", "3")):
        graph, id = graft(graph, ids["b"], text, state=state)
        fresh.append(id)
    here = {id: stats["merged"] for id, stats in merge(graph, fresh).stats.items()}
    assert here == {fresh[2]: fresh[1], fresh[4]: fresh[3]}
    everywhere = {id: stats["merged"] for id, stats in merge(graph, fresh, everywhere=True).stats.items()}
    assert everywhere == {fresh[0]: two, fresh[1]: one, fresh[2]: one, fresh[4]: fresh[3]}


def test_thoughts_without_states_and_failed_ones_merge_with_nobody_elsewhere() -> None:
    graph, ids = grown({"q": ["a", "b"], "a": ["x"]})
    graph, plain = graft(graph, ids["b"], "x")
    graph, lost = graft(graph, ids["b"], "y", "failed", state="1")
    graph, known = graft(graph, ids["b"], "z", state="1")
    assert merge(graph, [plain, lost, known], everywhere=True).stats == {}


TREE = {"q": ["a", "b", "c"], "a": ["aa", "ab"], "b": ["ba", "bb"], "ba": ["baa"], "ab": ["aba", "abb"]}
VALUES = {"a": 0.5, "b": 0.4, "c": 0.3, "aa": 0.2, "ab": 0.1, "ba": 0.3, "bb": 0.6}


def valued(texts: dict[str, list[str]] = TREE) -> tuple[ThoughtGraph, dict[str, str]]:
    graph, ids = grown(texts)
    for text, value in VALUES.items():
        graph = marked(graph, ids[text], value=value)
    return graph, ids


def test_a_walk_tries_the_best_wrong_branch_of_each_thought_before_the_right_one() -> None:
    """The right leaf is abb. Under q, b .4 comes before c .3, and goes down to bb .6, the better child.
    Under a, aa; under ab, aba.
    """
    graph, ids = valued()
    assert named(graph, linearise(graph, ids["abb"], [], 1)) == [
        ("b", "on"), ("bb", "on"), ("q", "back"), ("a", "again"),
        ("aa", "on"), ("a", "back"), ("ab", "again"),
        ("aba", "on"), ("ab", "back"), ("abb", "again"),
    ]  # fmt: skip


def test_two_wrong_branches_follow_each_other_and_none_is_the_shortest_way() -> None:
    graph, ids = valued()
    assert named(graph, linearise(graph, ids["aa"], [], 2)) == [
        ("b", "on"), ("bb", "on"), ("q", "back"), ("c", "again"), ("q", "back"), ("a", "again"),
        ("ab", "on"), ("aba", "on"), ("a", "back"), ("aa", "again"),
    ]  # fmt: skip
    assert named(graph, linearise(graph, ids["abb"], [], 0)) == [("a", "on"), ("ab", "on"), ("abb", "on")]


def test_what_leads_to_another_right_leaf_is_no_wrong_branch() -> None:
    """With baa right, too, b is not wrong, and c is tried in its place."""
    graph, ids = valued()
    walk = named(graph, linearise(graph, ids["aa"], [ids["baa"]], 1))
    assert walk[:3] == [("c", "on"), ("q", "back"), ("a", "again")]


def test_what_says_the_same_as_the_right_step_is_no_wrong_branch_be_it_the_elder() -> None:
    """A search may go on from a later twin; neither twins nor merged nor failed thoughts are shown."""
    graph, _ = grown({"q": ["a"]})
    graph, right = graft(graph, graph.root, "a")
    graph, leaf = graft(graph, right, "end", "final", answer="end")
    graph, _ = graft(graph, graph.root, "b", "failed")
    graph, _ = graft(graph, graph.root, "c", merged=right)
    assert named(graph, linearise(graph, leaf, [], 9)) == [("a", "on"), ("end", "on")]


def test_a_branch_that_comes_to_no_answer_can_be_left_out() -> None:
    """Only b ends in an answer, by way of ba and baa, though bb promises more."""
    graph, ids = valued()
    graph, _ = graft(graph, ids["baa"], "wrong", "final", answer="wrong")
    walk = named(graph, linearise(graph, ids["aa"], [], 9, ended=True))
    assert walk == [
        ("b", "on"), ("ba", "on"), ("baa", "on"), ("wrong", "on"), ("q", "back"),
        ("a", "again"), ("aa", "on"),
    ]  # fmt: skip


def test_a_walk_follows_the_steps_that_a_thought_goes_on_from_not_its_parents() -> None:
    """r replaces b: it is b's child and stands in its place, behind the root."""
    graph, ids = grown({"q": ["a", "b"], "b": ["x"]})
    graph, better = graft(graph, ids["b"], "r")
    refined = {**graph.thoughts[better], "base": graph.root, "depth": 1, "operator": "refine"}
    thoughts = {**graph.thoughts, better: refined}
    graph = ThoughtGraph(graph.root, thoughts, graph.stats)  # type: ignore[arg-type]
    walk = named(graph, linearise(graph, better, [], 9))
    assert walk == [
        ("a", "on"), ("q", "back"), ("b", "again"), ("x", "on"), ("q", "back"), ("r", "again"),
    ]  # fmt: skip
    graph = marked(graph, better, value=0.9)
    walk = named(graph, linearise(graph, ids["a"], [], 9))
    assert walk[:2] == [("b", "on"), ("x", "on")], "r is no way on from b, however good it is"


def test_turns_are_put_in_words_with_what_was_wrong() -> None:
    graph, ids = grown({"q": ["a", "b"], "a": ["{why}"]})
    graph, right = graft(graph, ids["a"], "right", "final", answer="right")
    graph, _ = graft(graph, ids["b"], "false", "final", answer="false")
    graph = marked(graph, ids["{why}"], feedback="That divides by zero. ")
    assert in_words(graph, linearise(graph, right, [], 1)) == [
        "b",
        "false",
        "Wait. That is not the answer. I go back to the beginning and try something else.",
        "a",
        "{why}",
        "Wait. That divides by zero. I go back to step 1 and try something else.",
        "right",
    ]
    plain = marked(graph, ids["{why}"], feedback="")
    assert in_words(plain, linearise(plain, right, [], 1))[5].startswith("Wait. This leads nowhere.")


def test_steps_that_were_given_come_first_and_are_never_gone_back_behind() -> None:
    graph, ids = grown({"q": ["a", "b"]})
    root = {**graph.thoughts[graph.root], "given": ["g", "h"], "depth": 2}
    graph = ThoughtGraph(graph.root, {**graph.thoughts, graph.root: root}, graph.stats)  # type: ignore[dict-item]
    lines = in_words(graph, linearise(graph, ids["b"], [], 1), TAGGED)
    assert lines == ["g", "h", "<|continue|>a", "<|reflect|>back to 2", "<|explore|>b"]


def countdown(*paths: str) -> tuple[ThoughtGraph, list[str]]:
    """The tree of these attempts at a puzzle, steps apart by commas, and their ends."""
    question = "4 9 10 13 : 24"
    graph = plant(question)
    ends = []
    for path in paths:
        id = graph.root
        for step in path.split(", "):
            known = {graph.thoughts[child]["text"]: child for child in graph.children(id)}
            if step in known:
                id = known[step]
                continue
            checked = check_step(question, graph.thoughts[id].get("state"), step)
            kind: Kind = "final" if checked.final else "step"
            graph, id = graft(
                graph, id, step, kind, state=checked.state, answer="x" if checked.final else None
            )
        ends.append(id)
    return graph, ends


def test_a_tagged_journey_is_a_chain_of_action_thought_that_the_task_accepts() -> None:
    """Each line passes the checker of the format, and the path that is left holds the right answer."""
    graph, (right, *_) = countdown(
        "13 - 9 = 4 | 4 4 10, 10 - 4 = 6 | 4 6, 6 * 4 = 24",
        "13 - 9 = 4 | 4 4 10, 10 + 4 = 14 | 4 14, 14 + 4 = 18",
        "13 + 4 = 17 | 9 10 17",
    )
    lines = in_words(graph, linearise(graph, right, [], 2), TAGGED)
    assert lines == [
        "<|continue|>13 + 4 = 17 | 9 10 17",
        "<|reflect|>back to 0",
        "<|explore|>13 - 9 = 4 | 4 4 10",
        "<|continue|>10 + 4 = 14 | 4 14",
        "<|continue|>14 + 4 = 18",
        "<|reflect|>back to 1",
        "<|explore|>10 - 4 = 6 | 4 6",
        "<|continue|>6 * 4 = 24",
    ]
    task = get_task("game24")
    assert task.coat is not None and task.coat.check is not None
    state = None
    for line in lines:
        checked = task.coat.check(graph.question, state, line)
        assert checked.reason is None
        state = checked.state
    answer = task.coat.answer(graph.question, lines)
    assert answer is not None and task.verifier is not None
    assert task.verifier(graph.question, answer).correct


@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1, max_size=12),
    st.integers(0, 3),
)
def test_any_walk_ends_at_the_leaf_and_tries_no_more_than_allowed(paths: list[list[str]], wrong: int) -> None:
    graph = plant()
    for path in paths:
        id = graph.root
        for text in path:
            known = {graph.thoughts[child]["text"]: child for child in graph.children(id)}
            graph, id = (graph, known[text]) if text in known else graft(graph, id, text)
    visits = linearise(graph, id, [], wrong)
    assert visits[-1].thought == id
    entered = [visit.thought for visit in visits if visit.turn != "back"]
    assert len(set(entered)) == len(entered), "nothing is told twice"
    backs = [visit.thought for visit in visits if visit.turn == "back"]
    assert all(backs.count(above) <= wrong for above in backs)
    standing = [graph.root]
    for visit in visits:
        if visit.turn == "back":
            del standing[standing.index(visit.thought) + 1 :]
        else:
            assert graph.thoughts[visit.thought]["parent"] == standing[-1]
            standing.append(visit.thought)
    assert standing == graph.path(id), "what the turns leave standing is the right path"


def smoothing(
    policy: FakePolicy, allowance: Allowance, prompts: Prompts | None = None
) -> tuple[ThoughtGraph, list[str]]:
    """The graph after a right leaf's journey was told again, and what came out."""
    graph, _ = grown({"q": ["a"]})
    graph, leaf = graft(graph, graph.children(graph.root)[0], "right", "final", answer="42")
    message = Message(role="user", content="q")
    setting = Setting(policy, (message,), 1, Steps(), prompts=prompts or Prompts())
    outcome = drive(smooth(graph, leaf, ["a", "wait", "right"], setting, allowance, 12))
    assert [event["operator"] for event in outcome.trace] == ["restructure"]
    return graph.updated(outcome.writes), outcome.outputs


def test_a_journey_told_again_is_a_closed_thought_with_the_same_answer() -> None:
    policy = FakePolicy(lambda question, prefix: [("first a\nthen right", -1.0, True)])
    graph, (told,) = smoothing(policy, Allowance())
    thought = graph.thoughts[told]
    assert (thought["text"], thought["kind"], thought["answer"]) == ("first a\nthen right", "final", "42")
    assert thought.get("operator") == "restructure" and graph.stats[told]["closed"]
    (request,) = policy.requests
    assert "a\nwait\nright" in request.messages[-1]["content"]
    assert (request.prefix, request.stop, request.max_tokens) == ("", (), 12)


@pytest.mark.parametrize(
    ("reply", "reason"), [("", "ended without an answer"), ("word " * 20, "cut off after 12 tokens")]
)
def test_a_journey_that_was_not_told_to_its_end_is_a_failed_thought(reply: str, reason: str) -> None:
    policy = FakePolicy(lambda question, prefix: [(reply, -1.0)])
    graph, outputs = smoothing(policy, Allowance())
    assert outputs == []
    assert [thought["reason"] for thought in graph.thoughts.values() if "reason" in thought] == [reason]


def test_nothing_is_told_again_with_nothing_left_or_by_a_model_that_cannot() -> None:
    policy = FakePolicy(lambda question, prefix: [("told", -1.0, True)])
    assert smoothing(policy, Allowance(nodes=0))[1] == [] and not policy.requests
    with pytest.raises(InputError, match="has not learned to smooth"):
        smoothing(policy, Allowance(), Prompts.lacking())


def test_told_again_takes_no_more_tokens_than_are_left() -> None:
    def script(question: str, prefix: str) -> list[Reply]:
        return [("word " * 3, -1.0, True)]

    policy = FakePolicy(script)
    assert len(smoothing(policy, Allowance(tokens=5))[1]) == 1
    assert policy.requests[0].max_tokens == 5
