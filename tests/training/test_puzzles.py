"""The stream of worked puzzles that the policy learns from."""

from itertools import islice

from rlm_agent.tasks.countdown.checker import answer, check_step, verify
from rlm_agent.tasks.countdown.puzzle import parse
from rlm_agent.training.puzzles import Example, examples


def test_the_stream_is_the_same_for_the_same_seed(worked: list[Example]) -> None:
    assert list(islice(examples(0), 500)) == worked[:500]
    assert list(islice(examples(1), 500)) != worked[:500]


def test_puzzles_of_the_held_out_splits_never_occur(worked: list[Example]) -> None:
    assert {parse(example.prompt).split for example in worked} == {"train"}


def test_excluded_puzzles_never_occur(worked: list[Example]) -> None:
    texts = [parse(example.prompt).text for example in worked]
    excluded = set(texts[:1000])
    assert excluded & set(texts[1000:]), "none of them would have come again anyway"
    stream = islice(examples(0, excluded=excluded), 4000)
    assert not excluded & {parse(example.prompt).text for example in stream}


def test_prompts_are_canonical_puzzles_on_a_line(worked: list[Example]) -> None:
    for example in worked:
        assert example.prompt == f"{parse(example.prompt).text}\n"


def test_every_solution_is_legal_step_by_step_and_right(worked: list[Example]) -> None:
    for example in worked:
        question, steps = example.prompt.strip(), example.solution.split("\n")
        state, final = None, False
        for step in steps:
            checked = check_step(question, state, step)
            assert checked.reason is None and not final, (example, step)
            state, final = checked.state, checked.final
        candidate = answer(question, steps)
        assert final and candidate is not None, example
        assert verify(question, candidate).correct, example


def test_puzzles_of_all_kinds_occur_in_their_shares(worked: list[Example]) -> None:
    puzzles = [parse(example.prompt) for example in worked]
    three = sum(len(puzzle.numbers) == 3 for puzzle in puzzles) / len(puzzles)
    game24 = sum(len(puzzle.numbers) == 4 and puzzle.target == 24 for puzzle in puzzles) / len(puzzles)
    assert 0.10 < three < 0.20
    assert 0.35 < game24 < 0.50
