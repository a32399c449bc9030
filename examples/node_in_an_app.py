"""A reasoner as one node of an ordinary LangGraph app: the conversation goes in and comes back."""

from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from rlm_agent import Budget, create_reasoner

reasoner = create_reasoner("mcts", "mini", budget=Budget(tokens=4000), seed=1)

builder = StateGraph(MessagesState)
builder.add_node("reason", reasoner)
builder.add_edge(START, "reason")
app = builder.compile()

reply = app.invoke({"messages": [HumanMessage("4 9 10 13 : 24")]})["messages"][-1]
print(reply.content)
print(reply.additional_kwargs["reasoning_content"])
