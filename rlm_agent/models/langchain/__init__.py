"""Between LangChain's chat models and ours: the engine as a chat model, any chat model as a policy."""
