"""What holds for all tests; this file is imported before any test module, and so before langgraph."""

import os

os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")

from hypothesis import settings

# The same examples on every run, however slow the machine; `make test-all` explores new ones.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile("steady")
