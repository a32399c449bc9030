"""Where steps and answers end, format by format, and which formats are none."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rlm_agent import FakePolicy, Steps, create_chain
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.formats import (
    BOXED,
    EOIS,
    LINE,
    MODEL_END,
    PARAGRAPH,
    WHOLE,
    AnswerEnd,
    Ending,
    StepFormat,
    delimited,
    end_token,
    marker,
    pattern,
    special_token,
    tokens,
)
from rlm_agent.tasks.answers import free_answer, marked_answer

SENTENCE = pattern(r"[.!?]\s")
NEXT_STEP = pattern(r"(?=Step \d)")


def cut(unit: StepFormat, text: str, ending: Ending = "length", count: int = 9) -> tuple[str, Ending]:
    return Steps(format=unit).cut((), text, ending, count)


def ended(end: AnswerEnd, unit: StepFormat, text: str, *before: str, ending: Ending = "stop") -> str | None:
    """The last step of a chain whose answer ends in it; None where the answer goes on."""
    steps = Steps(format=unit, answer_end=end)
    step, how = steps.cut(before, text, ending, 9)
    return step if how == "end" else None


def test_the_default_is_one_step_a_line_up_to_the_models_end() -> None:
    assert (Steps().granularity, Steps().answer_end) == (LINE, MODEL_END)
    assert Steps(delimiter="\n\n").granularity == PARAGRAPH
    assert replace(Steps(), delimiter=";").granularity == delimited(";")
    assert replace(Steps(format=WHOLE), max_tokens=7).granularity == WHOLE
    assert Steps(max_tokens=7).longest == Steps(format=PARAGRAPH, max_tokens=7).longest == 7


@pytest.mark.parametrize("unit", [LINE, PARAGRAPH, EOIS, delimited(";")])
@pytest.mark.parametrize("ending", ["stop", "end", "length"])
def test_a_policy_cuts_at_delimiters_itself(unit: StepFormat, ending: Ending) -> None:
    assert cut(unit, "a. b", ending) == ("a. b", ending)


def test_a_block_of_tokens_is_a_step_unless_it_is_short() -> None:
    assert Steps(format=tokens(5), max_tokens=100).longest == 5
    assert cut(tokens(5), "a b", count=5) == ("a b", "stop")
    assert cut(tokens(5), "a b", count=4) == ("a b", "length")
    assert cut(tokens(5), "a b", "end", count=2) == ("a b", "end")


def test_a_block_that_breaks_off_within_a_character_leaves_it_to_the_next() -> None:
    half = "4 €".encode()[:-1].decode(errors="replace")
    assert cut(tokens(5), half, count=5) == ("4 ", "stop")


def test_white_space_is_a_block_of_tokens_but_no_step_otherwise() -> None:
    assert [tokens(1).is_empty(step) for step in ("\n", "", "x")] == [False, True, False]
    assert [LINE.is_empty(step) for step in (" ", "", "x")] == [True, True, False]


@pytest.mark.parametrize(
    ("unit", "text", "ending", "expected"),
    [
        (SENTENCE, "One. Two. Thr", "length", ("One. ", "stop")),
        (SENTENCE, "One. Two.", "end", ("One. ", "stop")),
        (SENTENCE, "One", "length", ("One", "length")),
        (SENTENCE, "One", "end", ("One", "end")),
        (SENTENCE, "One.\n", "end", ("One.\n", "end")),
        (NEXT_STEP, "Step 1: x Step 2: y", "end", ("Step 1: x ", "stop")),
        (NEXT_STEP, "Step 1: x", "length", ("Step 1: x", "length")),
        (pattern(re.compile("STOP", re.IGNORECASE)), "a stop b", "length", ("a stop", "stop")),
    ],
)
def test_a_pattern_ends_a_step_with_its_first_match(
    unit: StepFormat, text: str, ending: Ending, expected: tuple[str, Ending]
) -> None:
    assert cut(unit, text, ending) == expected


def test_a_whole_solution_is_one_step_however_it_stopped() -> None:
    assert [cut(WHOLE, "a\nb", ending)[1] for ending in ("stop", "end", "length")] == ["end", "end", "length"]


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("#### 42", "#### 42"),
        ("  ####42", "  ####42"),
        ("first\n#### 42\nand then", "first\n#### 42\n"),
        ("#### 1\n#### 2", "#### 1\n"),
        ("so #### 42", None),
        ("I shall write #### before it\nlater", None),
        ("####", None),
        ("####\n42", None),
        ("### 42", None),
    ],
)
def test_a_marker_ends_the_answer_with_its_line(text: str, step: str | None) -> None:
    assert ended(marker("####"), PARAGRAPH, text) == step


@pytest.mark.parametrize("text", ["#### 4", "first\n#### 4"])
def test_a_marked_line_that_was_cut_off_ends_no_answer(text: str) -> None:
    assert ended(marker("####"), WHOLE, text, ending="length") is None
    assert ended(marker("####"), WHOLE, text, ending="end") == text


def test_a_marker_may_be_spread_over_blocks_of_tokens() -> None:
    block = tokens(2)
    assert ended(marker("####"), block, "# 4", "so\n", "###", ending="length") is None
    assert ended(marker("####"), block, "2\n so", "so\n", "###", "# 4", ending="length") == "2\n"


def test_a_special_token_ends_a_line_and_another_delimiter_does_not() -> None:
    assert ended(marker("####"), EOIS, "#### 42", "so") == "#### 42"
    assert ended(marker("####"), delimited(","), "#### 1") is None
    assert ended(marker("####"), delimited(","), "234\nmore", "#### 1") == "234\n"


@pytest.mark.parametrize(
    ("text", "step"),
    [
        (r"so \boxed{4} it is", r"so \boxed{4}"),
        (r"\boxed{\frac{1}{2}}, done", r"\boxed{\frac{1}{2}}"),
        (r"\boxed{1} no \boxed{2}", r"\boxed{1}"),
        (r"{a} } \boxed{4} b", r"{a} } \boxed{4}"),
        (r"\boxed{} and \boxed{4}", r"\boxed{} and \boxed{4}"),
        (r"\boxed{ }", None),
        (r"\boxed{4", None),
        (r"boxed{4}", None),
    ],
)
def test_a_complete_box_ends_the_answer(text: str, step: str | None) -> None:
    assert ended(BOXED, LINE, text) == step
    assert ended(BOXED, LINE, text, ending="length") == step


def test_a_box_may_be_spread_over_blocks_of_tokens() -> None:
    assert ended(BOXED, tokens(2), "2} so", r"\bo", "xed{", "4", ending="length") == "2}"
    assert ended(BOXED, LINE, "2} so", r"\boxed{1}") is None


def test_many_open_boxes_are_passed_over_in_one_go() -> None:
    assert ended(BOXED, LINE, "\\boxed{" * 100_000) is None


def test_answers_are_read_from_lines_where_steps_end_anywhere() -> None:
    assert LINE.for_answer(["a", "b"]) == EOIS.for_answer(["a", "b"]) == ["a", "b"]
    assert tokens(2).for_answer(["1\n", "2", "3\n4", "\n"]) == ["1", "23", "4"]
    assert WHOLE.for_answer(["1\n23\n"]) == ["1", "23"]
    assert free_answer("q", tokens(1).for_answer([r"\boxed{4", "2", "}"])) == "42"


def test_a_marked_answer_is_what_follows_the_last_marker() -> None:
    read = marked_answer("####")
    assert read("q", ["#### 1", "so", " #### two words "]) == "two words"
    assert read("q", ["so #### 1"]) is None
    assert read("q", []) is None


def compiled(regex: Any) -> Callable[[], object]:
    return lambda: pattern(regex)


@pytest.mark.parametrize(
    ("made", "remedy"),
    [
        (lambda: delimited(""), r"tokens\(n\)"),
        (lambda: Steps(delimiter=""), r"tokens\(n\)"),
        (lambda: Steps(delimiter=";", format=LINE), "give one"),
        (lambda: special_token(""), "<eois>"),
        (lambda: end_token(""), "</answer>"),
        (lambda: tokens(0), "at least 1"),
        (lambda: tokens(-3), "at least 1"),
        (lambda: tokens(True), "at least 1"),
        (lambda: tokens(2.5), "at least 1"),  # type: ignore[arg-type]
        (compiled("(a"), "mend the pattern"),
        (compiled(b"a"), "mend the pattern"),
        (compiled(7), "mend the pattern"),
        (compiled("a*"), "at least one character"),
        (compiled("$"), "at least one character"),
        (compiled(""), "at least one character"),
        (lambda: marker(" "), "####"),
        (lambda: marker("#\n#"), "####"),
        (lambda: marked_answer(""), "####"),
        (StepFormat, "exactly one"),
        (lambda: StepFormat(delimiter="\n", whole=True), "exactly one"),
    ],
)
def test_what_ends_nothing_is_refused_with_the_remedy(made: Callable[[], object], remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        made()


def asked(**common: Any) -> str:
    """The system prompt that a general model is given."""
    policy = FakePolicy(lambda question, prefix: [("4", 0.0, True)])
    create_chain(policy, **common).invoke({"messages": [("user", "2 + 2?")]})
    return policy.requests[0].messages[0]["content"]


def test_a_general_model_is_asked_for_what_is_cut() -> None:
    boxed = "When you are done, give the answer on a line of its own as \\boxed{answer}."
    line = f"Reason step by step, one short step a line. {boxed}"
    assert asked() == asked(steps=Steps()) == asked(steps=Steps(format=LINE, answer_end=BOXED)) == line
    assert asked(steps=Steps(delimiter="\n\n")) == asked(steps=Steps(format=PARAGRAPH))
    assert "paragraph" in asked(steps=Steps(format=PARAGRAPH))
    assert "<eois>" in asked(steps=Steps(format=EOIS))
    assert "a line." not in asked(steps=Steps(format=WHOLE))
    assert asked(steps=Steps(answer_end=marker("####"))).endswith('on a line of its own as "#### answer".')
    assert asked(steps=Steps(answer_end=end_token("</answer>"))).endswith("then write </answer>.")
    assert asked(steps=Steps(format=pattern(r"\. ", "Be brief."))) == f"Be brief. {boxed}"
    assert asked(steps=Steps(format=EOIS), system_prompt="mine") == "mine"


def test_formats_are_values() -> None:
    made: Sequence[StepFormat] = [LINE, EOIS, tokens(2), SENTENCE, WHOLE]
    again = [delimited("\n"), special_token("<eois>"), tokens(2), pattern(r"[.!?]\s"), StepFormat(whole=True)]
    assert list(made) == again
    assert len({*made, *again}) == 5
