"""How fast the engine is beside what else runs GGUF models, on work that a tree search asks of it."""
