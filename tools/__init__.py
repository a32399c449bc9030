"""What a thought, a checker or a verifier may call: exact arithmetic on text that nobody trusts."""
