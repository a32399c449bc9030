"""Policies and values: llama.cpp in process, and a public fake for tests."""
