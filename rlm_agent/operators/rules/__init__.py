"""The rules that strategies make of the operators: pure functions, each from its own source."""
