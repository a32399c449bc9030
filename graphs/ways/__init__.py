"""Ways into apps of LangChain: a reasoner as a tool, as a chat model, in an agent."""
