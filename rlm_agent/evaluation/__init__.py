"""Running strategies over sets of problems, and saying how sure the figures are."""
