"""A search stops for a human, who puts a step in the place of the worst one; it goes on from there."""

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from rlm_agent import Review, create_beam_search

review = Review(depth=1, answer=True)  # before the first steps are gone on from, and before the answer
reasoner = create_beam_search("mini", value="head", seed=7, review=review, checkpointer=InMemorySaver())
thread: RunnableConfig = {"configurable": {"thread_id": "1"}}

state = reasoner.invoke({"messages": [("user", "4 9 10 13 : 24")]}, thread)
while "__interrupt__" in state:
    request = state["__interrupt__"][0].value["review"]
    print("stopped for:", request["reason"], "best:", request["best"] and request["best"]["answer"])
    for step in request["plan"]:
        print("  ", round(step["value"], 2), step["text"])
    reply: Any = True
    if request["plan"]:
        worst = min(request["plan"], key=lambda step: step["value"])
        reply = [{"edit": worst["id"], "text": "9 + 10 = 19 | 4 13 19"}]
    state = reasoner.invoke(Command(resume=reply), thread)
print("answer:", state["answer"])
