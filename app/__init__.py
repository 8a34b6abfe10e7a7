"""Ibid: a chat API that answers from an organization's own documents and cites the exact place of every claim."""

__version__ = "0.1.0"
