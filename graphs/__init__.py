"""One LangGraph state machine per strategy; the only layer that imports langgraph."""
