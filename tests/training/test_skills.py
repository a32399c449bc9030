"""The conversations of each skill: what is asked, what is learned, and that all of it is true."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice

import pytest

from rlm_agent.models.fake import FakePolicy
from rlm_agent.models.judges import JudgePreference
from rlm_agent.models.protocols import Candidate, Message
from rlm_agent.structure.metaactions import EXPLORE, REFLECT, TAGS
from rlm_agent.tasks.countdown.checker import answer, check_step, verify
from rlm_agent.tasks.countdown.coat import check_action, path_answer, present_path
from rlm_agent.tasks.countdown.moves import reachable
from rlm_agent.tasks.countdown.puzzle import parse
from rlm_agent.training.skills import ASKS, SHARES, Example, Line, examples

Part = Callable[[str], list[Example]]


@pytest.fixture(scope="module")
def of(stream: list[Example]) -> Part:
    """Those examples of the stream that are of a skill."""

    def skill(example: Example) -> str:
        texts = [line.text for line in example]
        asks = [name for name in ("critique", "prefer", "coat") if name in texts]
        return asks[0] if asks else "steps" if example[-1].ends else "astray"

    return lambda name: [example for example in stream if skill(example) == name]


def texts(lines: tuple[Line, ...]) -> list[str]:
    return [line.text for line in lines]


def follow(question: str, steps: list[str]) -> tuple[int | None, str | None]:
    """The index of the first step after which the target cannot be reached, by the exact solver; and a fault
    of the last one.
    """
    state, reason = None, None
    for number, step in enumerate(steps):
        checked = check_step(question, state, step)
        if checked.reason is not None or not in_reach(question, checked.state):
            return number, checked.reason
        state = checked.state
    return None, reason


def in_reach(question: str, state: str | None) -> bool:
    assert state is not None
    numbers = tuple(sorted(int(n) if "/" not in n else Fraction(n) for n in state.split()))
    return parse(question).target in reachable(numbers)


def test_the_stream_is_the_same_for_the_same_seed(stream: list[Example]) -> None:
    assert list(islice(examples(0), 300)) == stream[:300]
    assert list(islice(examples(1), 300)) != stream[:300]


def test_all_skills_occur_in_their_shares(stream: list[Example], of: Part) -> None:
    for name, skill in {
        "steps": "steps",
        "astray": "astray",
        "critique": "refine",
        "prefer": "prefer",
        "coat": "coat",
    }.items():
        assert abs(len(of(name)) / len(stream) - SHARES[skill]) < 0.03


def test_held_out_puzzles_occur_in_no_skill(stream: list[Example]) -> None:
    assert {parse(example[0].text).split for example in stream} == {"train"}
    excluded = {example[0].text for example in stream}
    shared = {example[0].text for example in islice(examples(1, excluded=excluded), 500)}
    assert not excluded & shared


def test_reach_is_what_the_exact_solver_says(of: Part) -> None:
    for name in ("steps", "astray"):
        for example in of(name)[:150]:
            state = None
            for line in example[1:]:
                state = check_step(example[0].text, state, line.text).state
                if line.reach is not None:
                    assert line.reach == in_reach(example[0].text, state), (example, line)


def test_a_solution_is_learned_whole(of: Part) -> None:
    for question, *steps in of("steps"):
        assert not question.learned
        assert all(step.learned for step in steps)
        assert [step.ends for step in steps] == [False] * (len(steps) - 1) + [True]


def test_of_a_chain_that_goes_astray_only_the_good_beginning_is_learned(of: Part) -> None:
    for question, *steps in of("astray"):
        fault, _ = follow(question.text, [step.text for step in steps])
        assert [step.learned for step in steps] == [number < (fault or 0) for number in range(len(steps))]


def test_a_critique_names_the_first_step_that_loses_the_target(of: Part) -> None:
    said = set()
    for example in of("critique"):
        at = texts(example).index("critique")
        fault, _ = follow(example[0].text, texts(example[1:at]))
        reply = example[at + 1]
        assert reply.text == ("right" if fault is None else f"wrong at {fault + 1}")
        assert reply.learned and reply.ends
        assert not any(line.learned for line in example[: at + 1])
        said.add(reply.text)
    assert {"right", "wrong at 1", "wrong at 2", "wrong at 3"} <= said


def test_some_attempts_are_miscounted_and_nothing_is_asked_of_what_follows(of: Part) -> None:
    reasons = set()
    for example in of("critique"):
        at = texts(example).index("critique")
        fault, reason = follow(example[0].text, texts(example[1:at]))
        reasons.add(reason)
        if reason is not None:
            assert all(line.reach is None for line in example[1 + (fault or 0) : at])
    assert {None, "wrong arithmetic"} <= reasons


def test_a_rewrite_keeps_the_good_beginning_and_is_right(of: Part) -> None:
    rewrites = [example for example in of("critique") if "rewrite" in texts(example)]
    assert len(rewrites) > 50
    for example in rewrites:
        at, question = texts(example).index("rewrite"), example[0].text
        kept = int(example[at - 1].text.removeprefix("wrong at ")) - 1
        solution = texts(example[at + 1 :])
        assert solution[:kept] == texts(example[1 : 1 + kept])
        candidate = answer(question, solution)
        assert candidate is not None
        assert verify(question, candidate).correct
        assert all(line.learned for line in example[at + 1 :])


def attempts(example: Example) -> tuple[list[str], list[str]]:
    """The steps of both attempts of a comparison."""
    second = texts(example).index("Attempt 2:")
    return texts(example[2 : second - 1]), texts(example[second + 1 : -2])


def test_the_better_attempt_is_the_one_that_has_come_further_without_losing_the_target(of: Part) -> None:
    for example in of("prefer"):
        ranks = []
        for steps in attempts(example):
            fault, _ = follow(example[0].text, steps)
            ranks.append(len(steps) if fault is None else -1)
        assert example[-1].text == ("1" if ranks[0] > ranks[1] else "2")
        assert [line.learned for line in example] == [False] * (len(example) - 1) + [True]


def test_a_comparison_is_put_as_a_judge_puts_it(of: Part) -> None:
    policy = FakePolicy(lambda question, prefix: [("1", 0.0)])
    judge = JudgePreference(policy, ASKS["prefer"], samples=1)
    for example in of("prefer")[:20]:
        question: tuple[Message, ...] = (Message(role="user", content=example[0].text),)
        first, second = (Candidate(question, tuple(steps), final=False) for steps in attempts(example))
        judge.prefer([(first, second)])
        assert policy.requests[-2].messages[0]["content"] == "\n".join(texts(example[:-1]))


def walk(example: Example) -> Iterator[tuple[Line, str | None]]:
    """The lines of a chain that reflects, each with the state that it leaves."""
    state = None
    for line in example[2:]:
        checked = check_action(example[0].text, state, line.text)
        assert checked.reason is None, (example, line, checked)
        state = checked.state
        yield line, state


def test_a_chain_that_reflects_is_legal_and_ends_right(of: Part) -> None:
    for example in of("coat"):
        assert example[1].text == "coat"
        list(walk(example))
        candidate = path_answer(example[0].text, texts(example[2:]))
        assert candidate is not None
        assert verify(example[0].text, candidate).correct
        assert [line.ends for line in example] == [False] * (len(example) - 1) + [True]


def test_all_but_the_wrong_turns_is_learned(of: Part) -> None:
    turns = set()
    for example in of("coat"):
        lines = example[2:]
        turns.add(sum(line.text.startswith(REFLECT) for line in lines))
        for number, line in enumerate(lines):
            path = present_path(texts(lines[: number + 1]))
            fault, _ = follow(example[0].text, path)
            assert line.learned == (fault is None), (example, line)
    assert turns == {0, 1, 2, 3}


def test_a_reflection_keeps_the_good_beginning_and_an_exploration_follows(of: Part) -> None:
    for example in of("coat"):
        said = texts(example[2:])
        for number, (line, after) in enumerate(zip(said, [*said[1:], ""], strict=True)):
            assert line.startswith(TAGS)
            assert after.startswith(EXPLORE) == line.startswith(REFLECT)
            if line.startswith(REFLECT):
                fault, _ = follow(example[0].text, present_path(said[:number]))
                assert line == f"{REFLECT}back to {fault}"
