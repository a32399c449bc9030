"""A reasoner behind OpenAI's interface, in this process, and a question over HTTP; see docs/serving.md."""

import httpx

from rlm_agent.serve.application import create_app
from rlm_agent.serve.catalogue import Catalogue
from rlm_agent.serve.running import in_background

body = {
    "model": "beam_search:mini",
    "messages": [{"role": "user", "content": "4 9 10 13 : 24"}],
    "seed": 1,
    "rlm": {"parameters": {"width": 8}},
}
with in_background(create_app(Catalogue({"mini": "mini"}))) as url:
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
print(reply["choices"][0]["message"]["reasoning_content"])
print(reply["choices"][0]["message"]["content"], reply["usage"])
