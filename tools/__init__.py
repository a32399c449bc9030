"""What a thought, a checker or a verifier may call: tools by name, and exact arithmetic on untrusted text."""
