"""A search that is cut off resumes from its last superstep; nothing that was generated is lost."""

import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver

from rlm_agent import Budget, Completion, GGUFPolicy, Policy, Request, create_mcts
from rlm_agent.models.resolve import load_policy


class Flaky:
    """A policy that dies at its fifth call, like a process that is killed."""

    def __init__(self, policy: Policy) -> None:
        self.identity, self.task, self.decoding = policy.identity, policy.task, policy.decoding
        self._policy, self._calls = policy, 0

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self._calls += 1
        if self._calls == 5:
            raise ConnectionError("the power went out")
        return self._policy.generate(requests)

    async def agenerate(self, requests: Sequence[Request]) -> list[Completion]:
        return self.generate(requests)


mini = load_policy("mini")
assert isinstance(mini, GGUFPolicy)
options: dict[str, Any] = {"seed": 7, "stop_when_verified": False, "budget": Budget(tokens=500)}
options["retry"] = False  # a lost connection is tried again otherwise
thread: RunnableConfig = {"configurable": {"thread_id": "1"}}
question = {"messages": [("user", "2 3 10 10 : 24")]}

with tempfile.TemporaryDirectory() as folder:
    connection = sqlite3.connect(Path(folder) / "searches.db", check_same_thread=False)
    saver = SqliteSaver(connection)
    try:
        create_mcts(Flaky(mini), checkpointer=saver, **options).invoke(question, thread)
    except ConnectionError as error:
        print("stopped:", error)
    reasoner = create_mcts(mini, checkpointer=saver, **options)
    print("thoughts so far:", len(reasoner.get_state(thread).values["thoughts"]))
    print("answer:", reasoner.invoke(None, thread)["answer"])
    unbroken = create_mcts(mini, **options).invoke(question)
    print("the same as without the crash:", unbroken["answer"])
    connection.close()
