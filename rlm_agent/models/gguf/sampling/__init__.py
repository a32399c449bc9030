"""Drawing tokens: cuts, penalties, grammars, and what the model thought of its tokens."""
