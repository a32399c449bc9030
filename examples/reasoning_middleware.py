"""Two lines more in an app with `create_agent`: a search answers what it can answer, the model the rest."""

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage

from rlm_agent import ChatGGUF, ReasoningMiddleware, create_mcts

search = create_mcts("mini", value="head", seed=1)
agent = create_agent(
    ChatGGUF("mini", temperature=0, max_tokens=40),
    middleware=[ReasoningMiddleware(search, use="answer")],  # "hint" tells the model what was found
)
reply = agent.invoke({"messages": [HumanMessage("4 9 10 13 : 24")]})["messages"][-1]
print(reply.content)
print(reply.additional_kwargs["reasoning_content"])
