"""What an index finds is what a walk would find, whenever it was last asked."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.structure.ids import child_id, root_id
from rlm_agent.structure.index import ENDS, Index, Indices, Key, alike_to, in_state
from rlm_agent.structure.thoughts import Kind, Stats, Thought, ThoughtGraph, Writes, fresh_stats
from tests.structure.trees import graft, grown, plant

KINDS: list[Kind] = ["step", "step", "final", "failed"]
Birth = tuple[int, Kind, str, str | None]
"""Which one of those that are there is the parent, the kind, the text, and the state."""

births = st.tuples(
    st.integers(0, 10**6),
    st.sampled_from(KINDS),
    st.sampled_from(["a", "b ", "b"]),
    st.sampled_from([None, "s", "t"]),
)
rounds = st.lists(st.tuples(st.lists(births, max_size=4), st.booleans(), st.booleans()), max_size=8)


def born(graph: ThoughtGraph, birth: Birth) -> Writes:
    """The writes of one more thought."""
    number, kind, text, state = birth
    members = list(graph.walk())
    parent = members[number % len(members)]
    index = graph.stats[parent]["children"]
    thought = Thought(parent=parent, index=index, depth=1, kind=kind, text=text, tokens=1, logprob=0.0)
    if state is not None:
        thought["state"] = state
    elder = Stats({**graph.stats[parent], "children": index + 1})
    id = child_id(parent, index)
    return Writes({id: thought}, {id: fresh_stats(thought), parent: elder})


def looked_for(graph: ThoughtGraph, key: Key) -> set[str]:
    """What is found by looking at each thought of the question."""
    thoughts = {id: graph.thoughts[id] for id in graph.walk()}
    if key == ENDS:
        return {id for id, thought in thoughts.items() if thought["kind"] == "final"}
    known = {id: thought for id, thought in thoughts.items() if thought["kind"] != "failed"}
    if key[0] == "state":
        return {id for id, thought in known.items() if thought.get("state") == key[1]}
    _, parent, kind, said = key
    return {
        id
        for id, thought in known.items()
        if (thought["parent"], thought["kind"], thought.get("state", thought["text"].strip()))
        == (parent, kind, said)
    }


def keys(graph: ThoughtGraph) -> set[Key]:
    return {ENDS, in_state("s"), in_state("t")} | {
        alike_to(graph.thoughts[id]) for id in graph.walk() if id != graph.root
    }


@given(rounds)
def test_an_index_finds_what_a_walk_finds_in_the_order_of_birth(
    grown_in: Sequence[tuple[Sequence[Birth], bool, bool]],
) -> None:
    other, question = plant("another"), plant("q")
    other, _ = graft(other, other.root, "a", "final", state="s")
    thoughts = dict(other.thoughts)
    root = root_id(2)
    thoughts[root] = question.thoughts[question.root]
    graph = ThoughtGraph(root, thoughts, {**other.stats, root: question.stats[question.root]})
    order = [root]
    for new, settles, forgets in grown_in:
        for birth in new:
            writes = born(graph, birth)
            graph = graph.updated(writes)
            order += writes.thoughts
        if settles:  # as between two rounds of a search
            graph = ThoughtGraph(root, dict(graph.thoughts), dict(graph.stats), graph.index)
        if forgets:  # as after a load
            graph = ThoughtGraph(root, graph.thoughts, graph.stats)
        for key in keys(graph):
            found = list(graph.find(key))
            assert set(found) == looked_for(graph, key)
            assert found == sorted(found, key=order.index)
        for id in order[:: settles or -1]:
            texts = [graph.thoughts[step]["text"] for step in graph.chain(id)]
            assert graph.steps(id) == texts
            for delimiter in ("\n", "; "):
                assert graph.prefix(id, delimiter) == "".join(f"{text}{delimiter}" for text in texts)


def test_another_branch_of_what_may_happen_does_not_enter_the_index() -> None:
    graph, ids = grown({"q": ["a"]})
    one = graph.updated(born(graph, (0, "final", "x", None)))
    two = graph.updated(born(graph, (0, "step", "y", None)))
    assert len(one.find(ENDS)) == 1
    assert list(two.find(ENDS)) == []
    assert list(two.find(alike_to(two.thoughts[ids["a"]]))) == [ids["a"]]


def test_texts_are_kept_for_what_is_settled_alone() -> None:
    """What might be said next is asked for once for each of three futures, and the third comes true."""
    graph, ids = grown({"q": ["a"], "a": ["b"]})
    settled = ThoughtGraph(graph.root, dict(graph.thoughts), dict(graph.stats), graph.index)
    for text in "xyz":
        future, new = graft(settled, ids["b"], text)
        assert future.steps(new) == ["a", "b", text]
    settled = ThoughtGraph(graph.root, dict(future.thoughts), dict(future.stats), graph.index)
    assert settled.steps(new) == ["a", "b", "z"]
    other, _ = graft(settled, ids["a"], "c", "final")
    replaced = Thought(**{**settled.thoughts[new], "base": ids["a"]})
    assert other.updated(Writes({new: replaced}, {})).steps(new) == ["a", "z"]
    assert settled.steps(new) == ["a", "b", "z"]


def test_texts_of_a_long_chain_are_those_of_its_steps_whatever_was_asked_before() -> None:
    graph, chain = plant(), list[str]()
    for number in range(200):
        graph, id = graft(graph, chain[-1] if chain else graph.root, str(number))
        chain.append(id)
    settled = ThoughtGraph(graph.root, dict(graph.thoughts), dict(graph.stats))
    asked = [*range(0, 200, 3), *range(199, 0, -7), 0, 199]
    assert [settled.steps(chain[last]) for last in asked] == [
        [str(number) for number in range(last + 1)] for last in asked
    ]


def test_searches_keep_their_own_indices_and_a_loaded_one_begins_anew() -> None:
    indices, first = Indices(), plant("q")
    question = first.thoughts[first.root]
    assert indices.of(question) is indices.of(question)
    loaded = Thought(**question)
    assert loaded == question
    assert indices.of(loaded) is not indices.of(question)
    kept: Index = indices.of(question)
    for number in range(16):
        others = plant(str(number))
        indices.of(others.thoughts[others.root])
    assert indices.of(question) is not kept
