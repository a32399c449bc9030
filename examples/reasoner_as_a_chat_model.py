"""A reasoner wherever a chat model goes, here in a chain of LangChain."""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from rlm_agent import ReasonerChatModel, create_beam_search

model = ReasonerChatModel(create_beam_search("mini", value="head", seed=1))
chain = ChatPromptTemplate.from_messages([("human", "{numbers} : 24")]) | model | StrOutputParser()
print(chain.invoke({"numbers": "4 9 10 13"}))

for block in model.invoke("4 9 10 13 : 24").content_blocks:
    print(block)
