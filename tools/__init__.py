"""Tools that a thought, a checker or a verifier may call."""
