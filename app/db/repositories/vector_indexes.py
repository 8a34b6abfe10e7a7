"""Which vector indexes there are: one that covers exact search for a build, and a graph for each organization that is large.

A graph of all organizations together is no use to one of them: most of what it hands out is the others' and thrown away, and
the smaller the organization the more. Its own is half the work, misses less, is built sooner and in less memory, and the
chunks of the small ones, who are searched exactly, never enter one. See docs/decisions/0028-graphs-of-organizations.md.
"""

import hashlib
from typing import Final

from sqlalchemy import text

GRAPHS: Final = "hnsw"
EXACT: Final = "exact"

MOST_GRAPHS: Final = 64
"""Every plan and every insert looks at all indexes of the table; the organizations beyond are searched exactly."""

HAS_GRAPH: Final = text(
    "SELECT coalesce((SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)), false)"
)
LARGE: Final = text("""
SELECT organization_id, sum(chunk_count) > :from_rows AS needed FROM documents
 GROUP BY organization_id HAVING 2 * sum(chunk_count) > :from_rows
 ORDER BY sum(chunk_count) DESC LIMIT :most
""")
"""Those that need a graph, and those that keep the one they have: nobody's is dropped and built by turns."""

NAMED: Final = text("""
SELECT c.relname AS name, i.indisvalid AS valid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = to_regclass('chunks') AND starts_with(c.relname, :prefix)
""")


def index_name(kind: str, embedding_model: str, organization_id: str | None = None) -> str:
    """The name of the index of a build, or of an organization's part of it."""
    name = f"ix_chunks_{kind}_{_short(embedding_model)}"
    return name if organization_id is None else f"{name}_{_short(organization_id)}"


def literal(value: str) -> str:
    """A string in the text of a statement of SQLAlchemy's, where a colon would begin a parameter."""
    return "'" + value.replace("'", "''").replace(":", "\\:") + "'"


def _short(text_: str) -> str:
    return hashlib.sha256(text_.encode()).hexdigest()[:12]
