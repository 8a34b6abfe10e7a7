"""An answer keeps which files of its session it was without, as it keeps what else it had to do without.

Revision ID: 0020_pending_documents
Revises: 0019_page_text
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0020_pending_documents"
down_revision: str | None = "0019_page_text"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE messages ADD COLUMN pending_documents jsonb NOT NULL DEFAULT '[]'")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE messages DROP COLUMN pending_documents")
