"""A search within a search: a beam whose steps are each found by a small Monte Carlo tree search."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from rlm_agent import Budget, create_beam_search, create_mcts
from rlm_agent.graphs.nested import ReasonerPolicy

inner = partial(create_mcts, "mini", value="head", simulations=6)
policy = ReasonerPolicy(inner, tokens=300, calls=60)  # the most that one step of the beam may take
reasoner = create_beam_search(policy, width=2, expansions=2, budget=Budget(tokens=4000), seed=1)

question: dict[str, Any] = {"messages": [("user", "4 9 10 13 : 24")]}
events: Iterable[Any] = reasoner.stream(question, stream_mode="custom", subgraphs=True)
tried = 0
for place, event in events:
    if event["event"] == "thought" and place:
        tried += 1
    elif event["event"] == "thought":
        print(f"after {tried} thoughts within:", event["text"] or event["reason"])
    elif event["event"] == "answer" and not place:
        print("answer:", event["answer"], "for", event["usage"]["completion_tokens"], "tokens")
