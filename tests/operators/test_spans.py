"""What a chain did, read off its text: cues, spans without gaps, traces, and texts made to be slow."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.operators.rules.spans import label, trace, trace_last
from tests.structure.trees import graft, plant


def labelled(text: str) -> list[tuple[str, str]]:
    return [(span.operator, text[span.begin : span.end]) for span in label(text)]


def test_sentences_that_do_the_same_make_one_span() -> None:
    text = (
        "First, 3.5 * 2 = 7. Then 7 + 4 = 11. Wait, that's not right. Let me double-check: 7 + 4 is 11. "
        "Hmm, let me go back to the start. Alternatively, take 8 * 3.\nSo far 24. Therefore it is 24."
    )
    assert labelled(text) == [
        ("generate", "First, 3.5 * 2 = 7. Then 7 + 4 = 11. "),
        ("critique", "Wait, that's not right. Let me double-check: 7 + 4 is 11. "),
        ("backtrack", "Hmm, let me go back to the start. Alternatively, take 8 * 3.\n"),
        ("summarise", "So far 24. Therefore it is 24."),
    ]


@pytest.mark.parametrize(
    ("sentence", "operator"),
    [
        ("Multiply both sides by 2.", "generate"),
        ("The checks are cashed.", "generate"),
        ("The wait is over.", "generate"),
        ("Waiting takes an hour.", "generate"),
        ("Wait, 5 is prime.", "critique"),
        ("**Let\u2019s verify** this.", "critique"),
        ("Is this right?", "critique"),
        ("But is it 7?", "critique"),
        ("This doesn't work.", "critique"),
        ("I made a mistake in step 2.", "critique"),
        ("Wait, let me try another way.", "backtrack"),
        ("No, that leads nowhere.", "backtrack"),
        ("- Instead, add them.", "backtrack"),
        ("Okay, so we should start over.", "backtrack"),
        ("Another approach: factor it.", "backtrack"),
        ("To summarize, both are even.", "summarise"),
        ("So the final answer is 4.", "summarise"),
        ("Hence x = 2.", "summarise"),
    ],
)
def test_a_cue_at_the_beginning_tells_what_a_sentence_does(sentence: str, operator: str) -> None:
    assert labelled(sentence) == [(operator, sentence)]


@given(st.text(alphabet="ab .!?\nwait,go back", max_size=300))
def test_spans_cover_a_text_without_gaps_and_differ_from_their_neighbours(text: str) -> None:
    spans = label(text)
    assert "".join(text[span.begin : span.end] for span in spans) == text
    assert all(first.end == second.begin for first, second in pairwise(spans))
    assert all(first.operator != second.operator for first, second in pairwise(spans))


@pytest.mark.parametrize(
    "piece", ["wait ", "so, ", "(", "is that ", "let me now ", "\n", ". ", "a", "we should must can "]
)
def test_no_text_is_slow_to_read(piece: str) -> None:
    """Work grows with the length alone: if it squared, this would not come to an end."""
    text = piece * (400_000 // len(piece))
    assert label(text)[-1].end == len(text)


def test_a_trace_names_the_thoughts_that_a_chain_went_through() -> None:
    graph = plant()
    graph, first = graft(graph, graph.root, "Two and two is five. Wait, is that right?")
    graph, last = graft(graph, first, "It is four.", "final", answer="four")
    told = [
        (event["operator"], event["inputs"], event["outputs"], event["begin"], event["end"])
        for event in trace(graph, last)
    ]
    assert told == [
        ("generate", [graph.root], [first], 0, 21),
        ("critique", [first], [first], 21, 41),
        ("generate", [first], [last], 0, 11),
    ]


def test_a_reflection_is_a_critique_and_a_backtrack_to_the_step_that_it_names() -> None:
    """After the reflection the chain stands at its first step, and the exploration goes on from there."""
    graph = plant()
    ids = [graph.root]
    for text in (
        "<|continue|>one", "<|continue|>two", "<|continue|>three", "<|reflect|>back to 1", "<|explore|>four",
        "<|reflect|>that is wrong", "<|explore|>five", "<|reflect|>back to 0", "<|explore|>six",
        "<|reflect|>back to 999",
    ):  # fmt: skip
        graph, id = graft(graph, ids[-1], text)
        ids.append(id)
    root, one, two, three, back, four, wrong, five, none, six, far = ids
    told = [(event["operator"], event["inputs"][0], event["outputs"][0]) for event in trace(graph, far)]
    assert told == [
        ("generate", root, one), ("generate", one, two), ("generate", two, three),
        ("critique", three, back), ("backtrack", back, one), ("generate", one, four),
        ("critique", four, wrong), ("backtrack", wrong, four), ("generate", four, five),
        ("critique", five, none), ("backtrack", none, root), ("generate", root, six),
        ("critique", six, far), ("backtrack", far, six),
    ]  # fmt: skip
    for id in ids[1:]:
        assert trace_last(graph, id) == [event for event in trace(graph, far) if event["thought"] == id]


def test_a_thought_that_says_nothing_did_nothing() -> None:
    graph, id = graft(plant(), plant().root, "")
    assert trace(graph, id) == []
