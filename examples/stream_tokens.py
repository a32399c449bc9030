"""The tokens of a search while they are written, each with the thought that it is of, and the best so far."""

from collections import defaultdict
from typing import Any

from rlm_agent import create_best_of_n

reasoner = create_best_of_n("mini", n=8, seed=3)
question: dict[str, Any] = {"messages": [("user", "4 9 10 13 : 24")]}
texts: dict[str, str] = defaultdict(str)

events: Any = reasoner.stream(question, stream_mode=["messages", "custom"])
for mode, told in events:
    if mode == "messages":
        chunk, metadata = told
        if "rlm_node" in metadata:
            texts[metadata["rlm_node"]] += chunk.content
        else:
            print("reply:", chunk.content)
    elif told["event"] == "best":
        print("best so far:", told["answer"])
    elif told["event"] == "thought" and not told["reason"]:
        assert texts[told["id"]] == told["text"]
        print("thought:", told["text"])
