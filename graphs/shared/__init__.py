"""Rules that several strategies share."""
