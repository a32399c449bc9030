"""Passages of documents, found by meaning, by words, or by both, in this process.

ingest → finding, parts, splitting      files become documents, and these chunks
index → adding, store, writer, schema   chunks and vectors in one SQLite file, which is the truth
      → searching, views, snapshots     indexes that follow it: vectors (FAISS), lexical (BM25)
embeddings, rerank                      models of sentence-transformers, or any of LangChain's
langchain                               the index as LangChain's vector store and retriever
protocols                               what the layers above see of all this
"""
