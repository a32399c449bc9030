"""Problems with generators, step checkers and verifiers that see the question and the candidate only."""
