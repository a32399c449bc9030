"""Searches that stop for a human: where, what they show, and how they go on from what the human did."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from rlm_agent import (
    Budget,
    FakePolicy,
    FakeValue,
    ReasonerChatModel,
    ReasonerValue,
    Review,
    Steps,
    aedit,
    create_beam_search,
    create_mcts,
    edit,
)
from rlm_agent.graphs.machine.rules import Reasoner, Search
from rlm_agent.models.fake import Reply
from rlm_agent.models.protocols import Message
from rlm_agent.operators.setting import Setting
from rlm_agent.structure.budget import Allowance, no_usage
from rlm_agent.structure.consistency import check_graph
from rlm_agent.structure.errors import EditError, InputError, UnknownNameError
from rlm_agent.structure.ids import child_id, root_id
from tests.graphs.scripts import (
    LOOPS,
    X1,
    accepts,
    ask,
    binary,
    found,
    grown,
    guess,
    reason,
    thread,
    whole_path,
)
from tests.structure.trees import grown as tree

ROOT = Path(__file__).parent.parent.parent
EACH = Review(tokens=0, answer=True)
FEW = Budget(calls=25)
QUICK = [
    "chain", "best_of_n", "beam_search", "dvts", "particle_filtering", "tot_bfs", "tot_dfs", "best_first",
    "rest_mcts", "mcts_parallel", "x1", "long_chain", "rstar_few", "lats", "react_each",
]  # fmt: skip
BATTERY = [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in LOOPS]


def asked(reasoner: Reasoner, config: Any = None) -> dict[str, Any] | None:
    """What the reasoner shows a human who is to review it; None where it waits for nobody."""
    stops = reasoner.get_state(config or thread()).interrupts
    return stops[0].value["review"] if stops else None


def state(reasoner: Reasoner) -> dict[str, Any]:
    values: dict[str, Any] = reasoner.get_state(thread()).values
    return values


def carried_on(reasoner: Reasoner, *replies: Any) -> dict[str, Any]:
    """The values after these replies, and approvals for whatever else is asked."""
    for reply in replies:
        reasoner.invoke(Command(resume=reply), thread())
    while asked(reasoner) is not None:
        reasoner.invoke(Command(resume=True), thread())
    return state(reasoner)


def three(question: str, prefix: str) -> list[Reply]:
    """Zero or one, three times."""
    return [(digit, -1.0, prefix.count("\n") == 2) for digit in "01"]


def beam(review: Any = EACH, **keywords: Any) -> Reasoner:
    """A beam of two in a binary tree of depth 3, valued by how many ones there are, run until it stops."""
    common: dict[str, Any] = {
        "value": FakeValue(lambda steps: 0.1 + 0.1 * "".join(steps).count("1")),
        "steps": Steps(answer=whole_path),
        "budget": Budget(calls=1000),
        "seed": 5,
        "checkpointer": InMemorySaver(),
        "review": review,
    }
    reasoner = create_beam_search(
        FakePolicy(three, cycle=True), width=2, expansions=2, **{**common, **keywords}
    )
    reasoner.invoke(ask(), thread())
    return reasoner


@pytest.mark.parametrize("case", BATTERY)
def test_a_run_whose_reviews_are_all_approved_is_the_run_without_reviews(case: str) -> None:
    plain = reason(case, checkpointer=InMemorySaver(), budget=FEW)
    plain.invoke(ask(), thread())
    reviewed = reason(case, checkpointer=InMemorySaver(), budget=FEW, review=EACH)
    reviewed.invoke(ask(), thread())
    assert asked(reviewed) is not None
    assert found(carried_on(reviewed)) == found(state(plain))


def meddled(case: str) -> dict[str, Any]:
    """The values after a search in which a human does something else at each of the first stops."""
    reasoner = reason(case, checkpointer=InMemorySaver(), budget=FEW, review=EACH)
    reasoner.invoke(ask(), thread())
    for number in range(8):
        if (request := asked(reasoner)) is None:
            break
        graph = grown(state(reasoner))
        known = [id for id in graph.walk() if id != graph.root and not graph.dropped(id)]
        doings: list[Any] = [
            [
                {"add": one["id"], "text": text}
                for one, text in zip(request["plan"], ("on", "off"), strict=False)
            ],
            [{"edit": id, "text": "mended"} for id in known[-1:]],
            [{"prune": id} for id in [one["id"] for one in request["plan"] if one["id"] in known][:1]],
            [{"revalue": id, "value": 0.9} for id in known[:1]],
        ]
        reply = True if "refused" in request else doings[number % 4] or True
        dropped = {id: graph.stats[id]["children"] for id in graph.walk() if graph.dropped(id)}
        reasoner.invoke(Command(resume=reply), thread())
        now = state(reasoner)["stats"]
        assert {id: now[id]["children"] for id in dropped} == dropped
    return carried_on(reasoner)


@pytest.mark.parametrize("case", BATTERY)
def test_every_strategy_goes_on_from_edits_and_the_same_edits_give_the_same_tree(case: str) -> None:
    values = meddled(case)
    check_graph(values["thoughts"], values["stats"], values["run"])
    assert found(values) == found(meddled(case))
    by_humans = [one for one in values["thoughts"].values() if one.get("operator") == "human"]
    assert by_humans and values["run"]["stopped"] and values["usage"]["nodes"] >= len(by_humans)
    best = values["run"]["best"]
    assert best is None or not grown(values).dropped(best)


@pytest.mark.parametrize(
    "case",
    ["chain", "beam_search", "particle_filtering", "tot_dfs", "best_first", "mcts", "coat", "long_chain"],
)
def test_what_is_pruned_before_it_is_expanded_never_is(case: str) -> None:
    reasoner, root = reason(case, checkpointer=InMemorySaver(), budget=FEW, review=EACH), root_id(1)
    reasoner.invoke(ask(), thread())
    while not (
        planned := [one["id"] for one in (asked(reasoner) or {"plan": []})["plan"] if one["id"] != root]
    ):
        reasoner.invoke(Command(resume=True), thread())
    before = state(reasoner)["stats"]
    after = carried_on(reasoner, [{"prune": id} for id in planned])["stats"]
    assert all(after[id]["children"] == before[id]["children"] for id in planned)


def test_a_stop_before_each_round_shows_the_plan_the_best_and_the_budget() -> None:
    reasoner = beam(Review(tokens=0), budget=Budget(calls=100, tokens=5000))
    request = asked(reasoner)
    root = root_id(1)
    assert request == {
        "reason": "tokens",
        "question": "where to?",
        "plan": [
            {
                "id": root,
                "kind": "root",
                "depth": 0,
                "text": "where to?",
                "value": None,
                "visits": 0,
                "steps": [],
            }
        ],
        "best": None,
        "budget": {"tokens": 5000, "calls": 100, "nodes": None, "seconds": None},
    }
    assert json.loads(json.dumps(request)) == request
    reasoner.invoke(Command(resume="approve"), thread())
    request = asked(reasoner)
    assert request is not None
    assert [one["steps"] for one in request["plan"]] == [["0"], ["1"]]
    assert [one["value"] for one in request["plan"]] == pytest.approx([0.1, 0.2])


def test_depth_stops_once_before_thoughts_there_are_expanded() -> None:
    reasoner = beam(Review(depth=2))
    request = asked(reasoner)
    assert request is not None and request["reason"] == "depth"
    assert {one["depth"] for one in request["plan"]} == {2}
    reasoner.invoke(Command(resume=True), thread())
    assert asked(reasoner) is None and state(reasoner)["answer"] == "111"


def test_depth_stops_for_no_thought_that_has_children_already() -> None:
    graph, ids = tree({"q": ["a", "b"], "a": ["aa"]})
    setting = Setting(FakePolicy(three), (Message(role="user", content="q"),), 7)

    def held(*planned: str, seen: Sequence[str] = ()) -> list[str]:
        run: Any = {"plan": [[ids[text], 1] for text in planned], "round": 1}
        search = Search(graph, run, setting, Allowance())
        noted = Review(depth=1).held(search, no_usage(), {"depth": [ids[text] for text in seen]})
        return [text for text, id in ids.items() if id in noted.get("depth", ())]

    assert held("a", "aa") == held("q") == held("b", seen="b") == []
    assert held("a", "b") == ["b"]


def test_every_stops_after_so_many_tokens() -> None:
    reasoner, spent = reason("x1", checkpointer=InMemorySaver(), review=Review(every=9)), list[int]()
    reasoner.invoke(ask(), thread())
    while asked(reasoner) is not None:
        spent.append(state(reasoner)["usage"]["completion_tokens"])
        reasoner.invoke(Command(resume=True), thread())
    unstopped = reason("x1", checkpointer=InMemorySaver())
    unstopped.invoke(ask(), thread())
    rounds = [one.values for one in unstopped.get_state_history(thread()) if one.next == ("generate",)]
    tokens, wanted = sorted(values["usage"]["completion_tokens"] for values in rounds), [0]
    for one in tokens:
        if one - wanted[-1] >= 9:
            wanted.append(one)
    assert spent == wanted[1:] and 1 < len(spent) < len(tokens) - 1


def test_tokens_stop_where_a_round_may_take_more() -> None:
    """Each round plans four children, of at most 5 tokens each."""
    steps = Steps(answer=whole_path, max_tokens=5)
    assert asked(beam(Review(tokens=20), steps=steps)) is None
    request = asked(beam(Review(tokens=19), steps=steps))
    assert request is not None


def test_a_tie_stops_once_and_shows_the_two() -> None:
    reasoner = beam(Review(tie=0.0), value=FakeValue(lambda steps: 0.5))
    request = asked(reasoner)
    assert request is not None and request["reason"] == "tie"
    assert [one["text"] for one in request["tied"]] == ["0", "1"]
    reasoner.invoke(Command(resume=True), thread())
    request = asked(reasoner)
    assert request is not None and [one["depth"] for one in request["tied"]] == [2, 2]
    assert asked(beam(Review(tie=0.05))) is None  # the values of all are .1 apart


def test_a_function_says_when_and_why() -> None:
    def when(search: Search) -> str | None:
        return "two rounds" if search.run["round"] == 2 else None

    request = asked(beam(Review(when=when)))
    assert request is not None and request["reason"] == "two rounds" and request["plan"][0]["depth"] == 1


def test_the_answer_is_shown_before_it_is_given_and_another_one_is_shown_again() -> None:
    reasoner = beam("answer")
    request = asked(reasoner)
    assert request is not None and request["best"]["answer"] == "111" and not request["plan"]
    assert len(state(reasoner)["messages"]) == 1
    reasoner.invoke(Command(resume={"prune": request["best"]["id"]}), thread())
    request = asked(reasoner)
    assert request is not None and request["best"]["answer"] in ("110", "101", "011")
    assert carried_on(reasoner)["answer"] == request["best"]["answer"]


ANSWERING = [
    "self_consistency", "best_of_n", "particle_filtering", "tot_dfs", "best_first", "rest_mcts", "x1",
    "journey_smoothed", "llama_berry", "armap_mcts", "rstar", "coat", "lats",
]  # fmt: skip


@pytest.mark.parametrize("case", ANSWERING)
def test_an_answer_that_was_pruned_is_not_given(case: str) -> None:
    reasoner = reason(case, checkpointer=InMemorySaver(), budget=FEW, review="answer")
    reasoner.invoke(ask(), thread())
    pruned = list[str]()
    while (request := asked(reasoner)) is not None:
        ids = [] if request["best"] is None else [request["best"]["id"]]
        assert not set(ids) & set(pruned)
        pruned += ids
        reply: Any = [{"prune": id} for id in ids] if len(pruned) < 3 and ids else True
        reasoner.invoke(Command(resume=reply), thread())
    values = state(reasoner)
    assert pruned and values["run"]["best"] == (pruned[2] if len(pruned) == 3 else None)


def test_an_answer_whose_edits_change_nothing_about_it_is_not_shown_again() -> None:
    reasoner = beam("answer")
    graph = grown(state(reasoner))
    worst = min(graph.finals(), key=lambda id: graph.stats[id]["value"] or 0)
    reasoner.invoke(Command(resume=[{"prune": worst}]), thread())
    assert asked(reasoner) is None and state(reasoner)["answer"] == "111"


def test_the_search_goes_on_from_a_thought_that_was_added() -> None:
    reasoner = beam(Review(depth=1))
    request = asked(reasoner)
    assert request is not None
    one = request["plan"][1]["id"]
    reasoner.invoke(Command(resume=[{"add": one, "text": "111111"}]), thread())
    assert asked(reasoner) is None
    values = state(reasoner)
    graph, new = grown(values), child_id(one, 0)
    assert values["thoughts"][new]["text"] == "111111" and values["stats"][new]["value"] == pytest.approx(0.8)
    assert values["answer"] == "11111111"
    assert values["usage"]["nodes"] == len(values["thoughts"]) - 1
    assert new in graph.chain(values["run"]["best"])
    assert {values["thoughts"][id]["text"] for id in graph.children(request["plan"][0]["id"])} == {"0", "1"}


def test_the_search_goes_on_from_a_text_that_was_edited_and_not_from_the_old_one() -> None:
    reasoner = beam(Review(depth=1))
    request = asked(reasoner)
    assert request is not None
    old = request["plan"][1]["id"]
    reasoner.invoke(Command(resume=[{"edit": old, "text": "11"}]), thread())
    assert asked(reasoner) is None  # a human has seen what a human wrote
    values = state(reasoner)
    assert values["stats"][old]["children"] == 0 and values["answer"] == "1111"


def test_what_was_pruned_is_not_gone_on_from() -> None:
    reasoner = beam(Review(depth=1))
    request = asked(reasoner)
    assert request is not None
    values = carried_on(reasoner, [{"prune": request["plan"][1]["id"]}])
    assert values["answer"] == "011"


def test_a_value_that_a_human_gives_decides_the_answer() -> None:
    reasoner = beam("answer")
    graph = grown(state(reasoner))
    other = next(id for id in graph.finals() if graph.thoughts[id].get("answer") != "111")
    values = carried_on(reasoner, [{"revalue": other, "value": 0.99}])
    assert values["run"]["best"] == other


def test_a_search_that_is_stopped_concludes_with_its_best_and_asks_nobody_again() -> None:
    reasoner = beam(EACH)
    carried = [True, True, {"stop": True}]
    for reply in carried:
        reasoner.invoke(Command(resume=reply), thread())
    values = state(reasoner)
    assert asked(reasoner) is None and values["run"]["stopped"] == "human" and values["answer"] is None
    assert max(one["depth"] for one in values["thoughts"].values()) == 2


def test_edits_that_cannot_be_done_come_back_with_their_reasons_and_nothing_is_done() -> None:
    reasoner = beam(Review(depth=1))
    request, before = asked(reasoner), state(reasoner)
    assert request is not None
    good = request["plan"][0]["id"]
    for reply, why in (
        ([{"prune": good}, {"prune": "nobody"}], "edit 2: this question has no thought 'nobody'"),
        ("no", "neither an approval nor a list of edits"),
        (False, "neither an approval nor a list of edits"),
        ([], "neither an approval nor a list of edits"),
        (17, "neither an approval nor a list of edits"),
    ):
        reasoner.invoke(Command(resume=reply), thread())
        again = asked(reasoner)
        assert again is not None and why in again["refused"][0]
        assert {**again, "refused": None} == {**request, "refused": None}
        assert state(reasoner)["stats"] == before["stats"]
    assert carried_on(reasoner, [{"prune": good}])["stats"][good]["dropped"]


def test_a_pruned_answer_that_was_verified_does_not_end_the_search() -> None:
    reasoner = beam("answer", verifier=accepts("111"))
    request = asked(reasoner)
    assert request is not None and state(reasoner)["run"]["verified"]
    values = carried_on(reasoner, [{"prune": request["best"]["id"]}])
    assert values["answer"] != "111" and not values["run"]["verified"]


def test_a_plan_that_is_made_anew_takes_no_round_of_the_search() -> None:
    reasoner = reason("x1", review="round", checkpointer=InMemorySaver(), simulations=4)
    reasoner.invoke(ask(), thread())
    reasoner.invoke(Command(resume=True), thread())
    some = next(id for id in state(reasoner)["thoughts"] if id != root_id(1))
    values = carried_on(reasoner, [{"revalue": some, "value": 0.1}], [{"revalue": some, "value": 0.2}])
    assert values["run"]["round"] == 4 and values["run"]["stopped"] == "rounds"
    assert len({one["parent"] for one in values["thoughts"].values()} - {None}) == 4


def test_the_root_of_a_tree_search_knows_of_a_human_thought_as_of_any() -> None:
    """x1 backs up each leaf once: a thought of value v comes to one visit and q = 2v − 1."""
    reasoner = create_mcts(
        FakePolicy(binary(9), cycle=True),
        **X1,
        value=FakeValue(lambda steps: 0.75),
        steps=Steps(answer=whole_path),
        budget=Budget(calls=1000),
        seed=5,
        checkpointer=InMemorySaver(),
        review=Review(tokens=0),
    )
    reasoner.invoke(ask(), thread())
    reasoner.invoke(Command(resume=True), thread())
    root = root_id(1)
    before = state(reasoner)["stats"][root]["visits"]
    reasoner.invoke(Command(resume=[{"add": root, "text": "1111"}]), thread())
    new = child_id(root, 2)
    rounds = [one.values for one in reasoner.get_state_history(thread()) if one.next == ("select",)]
    values = next(one for one in rounds if one["run"]["fresh"] == [new])
    assert values["stats"][new] == {
        "visits": 1, "q": 0.5, "value": 0.75, "children": 0, "closed": False
    }  # fmt: skip
    assert values["stats"][root]["visits"] == before + 1 and values["stats"][root]["q"] == pytest.approx(0.5)


@pytest.mark.parametrize("case", ["beam_search", "rest_mcts", "lats", "mcts_parallel"])
def test_the_value_model_is_asked_of_what_a_human_wrote(case: str) -> None:
    reasoner = reason(case, checkpointer=InMemorySaver(), review="round", budget=FEW)
    reasoner.invoke(ask(), thread())
    values = carried_on(reasoner, [{"add": root_id(1), "text": "mine"}])
    assert values["stats"][child_id(root_id(1), 0)]["value"] == pytest.approx(guess(["mine"]))


def test_thoughts_under_two_parents_are_backed_up_from_both() -> None:
    """In ReST-MCTS* a round backs up from the thought that was expanded."""
    reasoner = reason("rest_mcts", checkpointer=InMemorySaver(), review="round", verifier=accepts("no"))
    reasoner.invoke(ask(), thread())
    reasoner.invoke(Command(resume=True), thread())
    graph = grown(state(reasoner))
    parents = [id for id in graph.children(graph.root) if not graph.stats[id]["closed"]]
    assert len(parents) == 2
    reasoner.invoke(Command(resume=[{"add": id, "text": "mine"} for id in parents]), thread())
    rounds = [one.values for one in reasoner.get_state_history(thread()) if one.next == ("select",)]
    now = next(one for one in rounds if len(one["run"]["fresh"]) == 2)["stats"]
    assert [now[id]["visits"] for id in parents] == [graph.stats[id]["visits"] + 1 for id in parents]


def test_a_low_recursion_limit_ends_a_reviewed_search_gracefully() -> None:
    reasoner = reason("mcts", checkpointer=InMemorySaver(), review=Review(depth=99, answer=True))
    for limit in (12, 13, 14, 15, 16, 17, 18):
        reasoner.invoke(ask(), thread(str(limit), limit))
        assert asked(reasoner, thread(str(limit))) is not None
        assert reasoner.invoke(Command(resume=True), thread(str(limit), limit))["messages"][-1].type == "ai"


CHILD = """
import sys
from tests.graphs.test_reviews import child
child(*sys.argv[1:])
"""
EDITS: list[Any] = [
    True,
    {"revalue": child_id(root_id(1), 0), "value": 0.1},
    [{"add": root_id(1), "text": "mine"}],
]


def child(path: str, done: str) -> None:
    """Begin a search in a file, or reply to the next of its stops, until it stops again; and be killed."""
    with SqliteSaver.from_conn_string(path) as saver:
        reasoner = reason("x1", checkpointer=saver, review=EACH, budget=FEW)
        if done == "nothing":
            reasoner.invoke(ask(), thread())
        else:
            for reply in EDITS[:2]:
                reasoner.invoke(Command(resume=reply), thread())
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_search_that_waits_outlives_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    for done in ("nothing", "begun"):
        process = subprocess.run([sys.executable, "-c", CHILD, path, done], cwd=ROOT, check=False)
        assert process.returncode == -signal.SIGKILL
    with SqliteSaver.from_conn_string(path) as saver:
        broken = found(carried_on(reason("x1", checkpointer=saver, review=EACH, budget=FEW), EDITS[2]))
    unbroken = reason("x1", checkpointer=InMemorySaver(), review=EACH, budget=FEW)
    unbroken.invoke(ask(), thread())
    assert broken == found(carried_on(unbroken, *EDITS))


async def test_async_runs_are_reviewed_and_edited_alike(tmp_path: Path) -> None:
    plain = reason("mcts_parallel", checkpointer=InMemorySaver(), review=EACH, budget=FEW)
    plain.invoke(ask(), thread())
    edits = [{"add": root_id(1), "text": "mine"}]
    values = carried_on(plain, True, edits)
    edit(plain, thread(), [{"prune": child_id(root_id(1), 0)}])
    plain.invoke(None, thread())
    values = carried_on(plain)
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "a.db")) as saver:
        reasoner = reason("mcts_parallel", checkpointer=saver, review=EACH, budget=FEW)
        await reasoner.ainvoke(ask(), thread())
        replies: Sequence[Any] = [True, edits, *[True] * 50]
        for reply in replies:
            if not (await reasoner.aget_state(thread())).interrupts:
                break
            await reasoner.ainvoke(Command(resume=reply), thread())
        await aedit(reasoner, thread(), [{"prune": child_id(root_id(1), 0)}])
        await reasoner.ainvoke(None, thread())
        while (await reasoner.aget_state(thread())).interrupts:
            await reasoner.ainvoke(Command(resume=True), thread())
        assert found((await reasoner.aget_state(thread())).values) == found(values)


def test_a_finished_search_is_edited_and_goes_on_without_any_review() -> None:
    reasoner = beam(None)
    first, one = state(reasoner), child_id(root_id(1), 1)
    assert first["answer"] == "111"
    edit(reasoner, thread(), [{"add": one, "text": "1111"}])
    assert reasoner.get_state(thread()).next == ("evaluate",)
    reasoner.invoke(None, thread())
    values = state(reasoner)
    assert values["answer"] == "111111"
    assert len(values["messages"]) == 2 and values["messages"][-1].id == first["messages"][-1].id


def test_an_edit_forks_a_thread_at_any_checkpoint_between_two_rounds() -> None:
    reasoner = beam(None)
    before = next(one for one in reasoner.get_state_history(thread()) if one.next == ("generate",))
    config = edit(reasoner, before.config, [{"stop": True}])
    assert reasoner.invoke(None, config)["answer"] is None
    assert state(reasoner)["run"]["stopped"] == "human"
    middle = next(one for one in reasoner.get_state_history(thread()) if one.next == ("evaluate",))
    with pytest.raises(InputError, match="in the middle of a round, before evaluate"):
        edit(reasoner, middle.config, [{"stop": True}])


def test_the_same_edits_from_within_and_from_without_give_the_same_tree() -> None:
    edits: Any = [{"add": root_id(1), "text": "mine"}, {"revalue": child_id(root_id(1), 0), "value": 0.9}]
    within = reason("x1", checkpointer=InMemorySaver(), review=EACH, budget=FEW)
    within.invoke(ask(), thread())
    within.invoke(Command(resume=True), thread())
    without = reason("x1", checkpointer=InMemorySaver(), interrupt_after=["select"], budget=FEW)
    without.invoke(ask(), thread())
    without.invoke(None, thread())
    edit(without, thread(), edits)
    while without.get_state(thread()).next:
        without.invoke(None, thread())
    assert found(state(without)) == found(carried_on(within, edits))
    assert state(without)["run"]["round"] == state(within)["run"]["round"]


def test_an_edit_from_without_that_cannot_be_done_leaves_the_thread_as_it_was() -> None:
    reasoner = beam(None)
    before = reasoner.get_state(thread())
    with pytest.raises(EditError, match="nothing was edited: edit 1: this question has no thought 'x'"):
        edit(reasoner, thread(), [{"prune": "x"}])
    with pytest.raises(EditError, match="neither an approval nor a list of edits"):
        edit(reasoner, thread(), [])
    assert reasoner.get_state(thread()) == before
    with pytest.raises(InputError, match="holds no search yet"):
        edit(reasoner, thread("other"), [{"stop": True}])


def test_thoughts_of_an_earlier_question_are_not_edited() -> None:
    reasoner = beam(None)
    reasoner.invoke(ask("and now?"), thread())
    with pytest.raises(EditError, match="this question has no thought"):
        edit(reasoner, thread(), [{"prune": child_id(root_id(1), 0)}])


def test_a_search_that_nobody_stores_is_not_reviewed() -> None:
    with pytest.raises(InputError, match="waits for a review and is stored nowhere; give it a checkpointer"):
        beam(checkpointer=None)
    with pytest.raises(InputError, match="not stored cannot wait for a review"):
        beam(checkpointer=False)
    reasoner = reason("x1", review=EACH)
    with pytest.raises(InputError, match="waits for a review"):
        ReasonerChatModel(reasoner=reasoner).invoke("where to?")
    with pytest.raises(InputError, match="not stored cannot wait"):
        ReasonerValue(lambda **options: reason("x1", review=EACH, **options), tokens=10)


@pytest.mark.parametrize("review", [EACH, Review(answer=True)])
def test_a_node_of_another_graph_stops_that_graph(review: Review) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("think", reason("x1", review=review, budget=FEW))
    builder.add_edge(START, "think")
    app: Any = builder.compile(checkpointer=InMemorySaver())
    said = app.invoke({"messages": [("user", "where to?")]}, thread())
    while "__interrupt__" in said:
        request = said["__interrupt__"][0].value["review"]
        assert len(said["messages"]) == 1
        said = app.invoke(Command(resume=True), thread())
    assert said["messages"][-1].text == request["best"]["answer"]


def test_a_graph_of_operations_is_neither_reviewed_nor_edited() -> None:
    with pytest.raises(InputError, match="has no rounds to review"):
        reason("graph_of_thoughts", review=EACH)
    reasoner = reason("graph_of_thoughts", checkpointer=InMemorySaver())
    reasoner.invoke(ask(), thread())
    with pytest.raises(InputError, match="a graph of operations is not edited"):
        edit(reasoner, thread(), [{"stop": True}])


def test_the_drawing_shows_where_a_search_may_stop_and_no_more_than_that() -> None:
    drawn = {
        name: set(reason("x1", review=review).get_graph().nodes)
        for name, review in {"none": None, "rounds": "round", "answer": "answer", "both": EACH}.items()
    }
    assert drawn["rounds"] - drawn["none"] == {"review"}
    assert drawn["answer"] - drawn["none"] == {"review_answer"}
    assert drawn["both"] - drawn["none"] == {"review", "review_answer"}
    edges = {(edge.source, edge.target) for edge in reason("x1", review=EACH).get_graph().edges}
    assert {
        ("select", "review"),
        ("review", "generate"),
        ("review", "select"),
        ("review", "evaluate"),
    } <= edges
    assert ("select", "generate") not in edges and ("select", "conclude") not in edges


@pytest.mark.parametrize(
    "keywords", [{}, {"depth": -1}, {"tokens": -1}, {"every": 0}, {"tie": 1.5}, {"tie": -0.1}]
)
def test_a_review_that_stops_nothing_is_refused(keywords: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Review(**keywords)


def test_another_word_is_no_review() -> None:
    with pytest.raises(
        UnknownNameError, match="there is no review 'often'; choose one of answer, round, tie"
    ):
        reason("x1", review="often")
    with pytest.raises(InputError, match="int is no review"):
        reason("x1", review=3)
