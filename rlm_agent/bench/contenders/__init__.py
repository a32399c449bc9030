"""Those that are compared: each writes the same trees by another road."""
