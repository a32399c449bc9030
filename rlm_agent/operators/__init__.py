"""The reasoning operators: pure functions from a view of the thought graph to writes.

Those that need a model are generators that ask for it (`models/drive.py`); none has any other effect.
Here are generate, evaluate, select, prune and backpropagate; refine, aggregate, restructure, backtrack,
retrieve and act belong beside them.
"""
