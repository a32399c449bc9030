"""Retrieval as a reasoning operator: loaders, indexes and retrievers have their place here."""
