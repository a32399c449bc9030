"""What is on offer, and by which names."""

from typing import Any

import httpx
import pytest

from rlm_agent import FakePolicy
from rlm_agent.evaluation.strategies import parse_strategy
from rlm_agent.serve.catalogue import _KEPT, Catalogue
from rlm_agent.serve.faults import Fault
from rlm_agent.structure.errors import InputError


def general() -> FakePolicy:
    return FakePolicy(lambda question, prefix: [("\\boxed{4}", 0.0, True)])


def catalogue(*strategies: str, **models: Any) -> Catalogue:
    return Catalogue(models or {"one": general()}, [parse_strategy(text) for text in strategies])


def test_every_model_on_offer_answers_within_its_budget(web: httpx.Client) -> None:
    names = [model["id"] for model in web.get("/v1/models").json()["data"]]
    assert {"mcts:mini", "graph_of_thoughts:mini", "long_chain:mini", "lats:mini"} <= set(names)
    for name in names:
        body = {"model": name, "messages": [{"role": "user", "content": "2 3 4 : 24"}], "max_tokens": 200}
        reply = web.post("/v1/chat/completions", json=body)
        assert reply.status_code == 200, reply.text
        assert reply.json()["usage"]["completion_tokens"] <= 200


def test_bare_name_is_the_first_strategy() -> None:
    offered = catalogue("chain", "best_of_n:n=3")
    assert offered.names == ["chain:one", "best_of_n:one"]
    assert offered.find("one").name == "chain:one"
    assert offered.find("one", "best_of_n").strategy.parameters == {"n": 3}
    assert offered.find("best_of_n:one", "chain").name == "chain:one"


@pytest.mark.parametrize("name", ["two", "chain:two", "mcts:one", "chain", ":one", "chain:", "chain:one:one"])
def test_what_is_not_on_offer_is_not_found(name: str) -> None:
    with pytest.raises(Fault) as fault:
        catalogue("chain").find(name)
    assert fault.value.status_code == 404


def test_names_of_models_may_hold_colons() -> None:
    offered = Catalogue({"openai:gpt": general()}, [parse_strategy("chain")])
    assert offered.find("openai:gpt") == offered.find("chain:openai:gpt")


def test_strategy_that_does_not_work_is_left_out_unless_it_is_named() -> None:
    assert "particle_filtering:one" not in catalogue().names
    with pytest.raises(InputError, match="value"):
        catalogue("particle_filtering")


def test_specialist_brings_its_tools() -> None:
    names = catalogue(**{"mini-tools": "mini-tools"}).names
    assert "react:mini-tools" in names and "long_chain:mini-tools" not in names


def test_reasoners_of_clients_are_forgotten() -> None:
    offered = catalogue("chain", "best_of_n")
    strategy = offered.find("best_of_n:one").strategy
    for n in range(2, 300):
        offered.reasoner(strategy, "one", {"n": n})
    assert len(offered._made) == _KEPT + 2
    assert offered.reasoner(strategy, "one", {"n": 299}) is offered.reasoner(strategy, "one", {"n": 299})


def test_equal_numbers_of_different_kinds_are_different_parameters() -> None:
    offered = catalogue("mcts")
    strategy = offered.find("one").strategy
    assert offered.reasoner(strategy, "one", {"c": 1}) is not offered.reasoner(strategy, "one", {"c": 1.0})
    offered.reasoner(strategy, "one", {"branching": 1})
    with pytest.raises(InputError):
        offered.reasoner(strategy, "one", {"branching": True})
