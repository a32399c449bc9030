"""An agent that reasons before it answers, made at once; its other keywords are those of `create_agent`."""

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from rlm_agent import create_reasoning_agent

agent = create_reasoning_agent(
    "mini",
    reasoner="best_of_n",
    use="answer",
    parameters={"n": 16, "seed": 1},
    checkpointer=InMemorySaver(),
)
thread: RunnableConfig = {"configurable": {"thread_id": "1"}}
for question in ("4 9 10 13 : 24", "1 5 5 5 : 24"):
    state = agent.invoke({"messages": [HumanMessage(question)]}, thread)
    print(len(state["messages"]), state["messages"][-1].content)
