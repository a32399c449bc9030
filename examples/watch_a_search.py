"""The events of a search while it runs, and its tree afterwards."""

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import ThoughtGraph, create_mcts

reasoner = create_mcts("mini", seed=3, checkpointer=InMemorySaver())
thread: RunnableConfig = {"configurable": {"thread_id": "watched"}}

for event in reasoner.stream({"messages": [("user", "1 5 5 5 : 24")]}, thread, stream_mode="custom"):
    if event["event"] == "thought":
        print("  " * event["depth"], event["text"], event["reason"] or event["value"] or "")

state = reasoner.get_state(thread).values
tree = ThoughtGraph(state["run"]["root"], state["thoughts"], state["stats"])
print("most visited first steps:")
for child in sorted(tree.children(tree.root), key=lambda id: -tree.stats[id]["visits"])[:3]:
    print(tree.stats[child]["visits"], tree.thoughts[child]["text"])
