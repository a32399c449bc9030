"""A reasoner as a tool, which any agent can call: `create_agent(model, tools=[solve])`."""

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from rlm_agent import as_tool, create_mcts

solve = as_tool(
    create_mcts("mini", value="head", seed=1),
    name="game_of_24",
    description="Makes a number of four others, such as 4 9 10 13 : 24.",
)

app = StateGraph(MessagesState).add_node("tools", ToolNode([solve])).add_edge(START, "tools").compile()
question = {"name": solve.name, "args": {"question": "4 9 10 13 : 24"}, "id": "1", "type": "tool_call"}
result = app.invoke({"messages": [AIMessage("", tool_calls=[question])]})["messages"][-1]
print(result.content)
print(result.artifact["reasoning"])
