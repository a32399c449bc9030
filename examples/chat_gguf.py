"""A model file as a chat model of LangChain: streams, structured output and calls of tools, by grammar."""

from typing import Literal

from langchain_core.messages import AIMessageChunk
from pydantic import BaseModel

from rlm_agent import ChatGGUF

model = ChatGGUF("mini", temperature=0, seed=1)  # or the path of a .gguf
for chunk in model.stream("4 9 10 13 : 24"):
    print(chunk.text, end="", flush=True)


class Pair(BaseModel):
    """Two of the numbers."""

    first: Literal[4, 9, 10, 13]
    second: Literal[4, 9, 10, 13]


print(repr(model.with_structured_output(Pair, max_tokens=60).invoke("4 9 10 13 : 24")))
for part in model.bind_tools([Pair], tool_choice="any", max_tokens=60).stream("4 9 10 13 : 24"):
    if isinstance(part, AIMessageChunk) and part.tool_call_chunks:
        print(part.tool_call_chunks[0]["args"], end="|")
