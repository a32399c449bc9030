"""The reasoning operators: pure functions from a view of the thought graph to writes.

Those that need a model are generators that ask for it (`models/drive.py`); none has any other effect.
Here are generate, refine, aggregate, prune, restructure, select, backtrack, backpropagate, evaluate and act,
and the rules that strategies make of them.
"""
