"""From generated problems to a small GGUF: tokenizer, supervised fine-tuning, export.

Needs the extra `train`.
"""
