"""A small model that calls a calculator, as one node of an app; another node uses a tool by itself."""

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from rlm_agent import Budget, Calculator, create_react
from rlm_agent.tools.dates import Dates
from rlm_agent.tools.wrapping import as_langchain

QUESTION = (
    "A shop has 37 crates with 48 pears in each. 129 are given away. All of them are packed into new crates "
    "of 9. How many crates are filled?"
)
dates = as_langchain(Dates())  # our tools serve agents of LangChain as well


def remind(state: MessagesState) -> MessagesState:
    day = dates.invoke({"expression": "2024-01-31 + 2 weeks"})
    return {"messages": [AIMessage(f"{state['messages'][-1].content} crates, to be sent by {day}")]}


builder = StateGraph(MessagesState)
builder.add_node(
    "reason", create_react("mini-tools", tools=[Calculator()], budget=Budget(tokens=500), seed=1)
)
builder.add_node("remind", remind)
builder.add_edge(START, "reason")
builder.add_edge("reason", "remind")
app = builder.compile()

_, reply, reminder = app.invoke({"messages": [HumanMessage(QUESTION)]})["messages"]
print(reply.additional_kwargs["reasoning_content"])
print(reminder.content)
