"""Values that are read off a model's forward pass."""
