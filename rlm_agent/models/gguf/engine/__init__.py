"""The engine: one context that serves many callers, its prefix cache and its scheduler."""
