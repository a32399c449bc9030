"""The operations of a user's own graph: what makes thoughts, and what chooses among them."""
