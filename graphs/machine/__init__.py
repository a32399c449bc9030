"""The state machine under every strategy: its nodes, its state, the terms of a question, what it tells."""
