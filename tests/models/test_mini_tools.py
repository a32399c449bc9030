"""The embedded model that calls tools: what it solves with them, and what is left without."""

from typing import Any

import pytest

from rlm_agent import Calculator, create_react
from rlm_agent.app.cli import main
from rlm_agent.evaluation.grid import Grid
from rlm_agent.evaluation.runs import Cell, Result, Setup
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.resolve import load_policy
from rlm_agent.tasks.registry import get_task

COUNT = 40
REACT = Cell("react", 4000)


def solved(name: str, count: int = COUNT, **left_out: bool) -> list[Result]:
    grid = Grid(
        Setup(name, "mini-tools", None, 0, **left_out), [REACT], get_task(name).sample("test", count, 0), {}
    )
    list(grid.run())
    return grid.results(REACT)


def share(results: list[Result]) -> float:
    return sum(bool(result.verified) for result in results) / len(results)


def test_it_is_a_specialist_that_has_learned_to_act() -> None:
    policy = load_policy("mini-tools")
    assert isinstance(policy, GGUFPolicy)
    assert policy.task == "words" and policy.prompts.act is not None
    assert policy.prompts.critique is None
    assert policy.file.path.stat().st_size < 4_000_000


def test_word_problems_are_solved_with_the_calculator_and_not_without() -> None:
    assert share(solved("words")) >= 0.85
    assert share(solved("words", 10, tools=False)) <= 0.2


def test_catalogue_problems_are_solved_with_the_retriever_and_not_without() -> None:
    assert share(solved("catalogue")) >= 0.75
    assert share(solved("catalogue", 10, retriever=False)) <= 0.2


def test_an_observation_is_never_the_models_own() -> None:
    """Its next step after a call would be one that it makes up; the tool's stands in its place."""
    reasoner = create_react("mini-tools", tools=[Calculator()], seed=0)
    (problem,) = get_task("words").sample("test", 1, 0)
    assert reasoner.invoke({"messages": [("user", problem.text)]})["answer"] == problem.gold


def test_solve_answers_what_nothing_can_verify(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[Any] = ["rlm-agent", "solve", get_task("words").problems("test", 1, 0)[0]]
    words += ["--task", "words", "--model", "mini-tools", "--strategy", "react"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert "nothing can verify it" in capsys.readouterr().out
