"""GGUF models in this process, through llama.cpp: file, chat template, context, sampling, policy."""
