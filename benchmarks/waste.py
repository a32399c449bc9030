"""All tokens decoded in one large search by `mini`, against those of its thoughts and their distinct texts.

A thought that is sampled again is a thought of its own, and its tokens are decoded again.

python benchmarks/waste.py [SIMULATIONS [distinct]]
"""

import sys

from rlm_agent import Budget, create_mcts
from rlm_agent.graphs.reasoner import memory_saver
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.resolve import load_policy
from rlm_agent.structure.thoughts import ThoughtGraph
from rlm_agent.tasks.registry import get_task

PUZZLES = ("2 3 5 12 : 24", "1 4 5 6 : 24", "5 5 9 11 : 24")


def distinct_tokens(graph: ThoughtGraph, prompt: int) -> int:
    """The prompt's and the thoughts' tokens, where equal texts under equal paths count once."""
    paths = {
        tuple(graph.steps(id)): graph.thoughts[id]["tokens"] for id in graph.thoughts if id != graph.root
    }
    return prompt + sum(paths.values())


def main(simulations: int, distinct: bool) -> None:
    """Run the searches, whatever they find on their way, and print the ratios."""
    task, policy = get_task("game24"), load_policy("mini")
    assert isinstance(policy, GGUFPolicy)
    for puzzle in PUZZLES:
        reasoner = create_mcts(
            policy,
            branching=4,
            simulations=simulations,
            steps=task.steps,
            budget=Budget(tokens=10_000_000),
            seed=0,
            checkpointer=memory_saver(),
            stop_when_verified=False,
            distinct=distinct,
        )
        policy.engine.forget()
        before = policy.engine.decoded
        config = {"configurable": {"thread_id": puzzle}}
        reasoner.invoke({"messages": [("user", puzzle)]}, config)
        values = reasoner.get_state(config).values
        graph = ThoughtGraph(values["run"]["root"], values["thoughts"], values["stats"])
        prompt = len(policy.prompt([{"role": "user", "content": graph.question}], ""))
        decoded, distinct = policy.engine.decoded - before, distinct_tokens(graph, prompt)
        generated = sum(thought["tokens"] for thought in graph.thoughts.values())
        rounds = values["run"]["round"]
        print(
            f"{puzzle}: {rounds} simulations, {len(graph.thoughts)} thoughts, {decoded} tokens decoded, "
            f"{generated + prompt} in thoughts: {decoded / (generated + prompt):.3f}, "
            f"{distinct} in distinct texts: {decoded / distinct:.3f}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500, sys.argv[2:] == ["distinct"])
