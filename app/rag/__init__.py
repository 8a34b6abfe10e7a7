"""Retrieval and generation: the only package that imports LlamaIndex."""
