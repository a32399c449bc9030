"""Thoughts and their graph, budgets, events and errors; standard library only."""
