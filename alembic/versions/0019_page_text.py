"""The text of a page is stored as it is: to compress it was a seventh of what PostgreSQL did for a megabyte of text.

Revision ID: 0019_page_text
Revises: 0018_degraded

It saved half of the text's size, which is little beside the chunks, vectors and indexes that a text has: six times its size. Pages
that are stored already stay as they are, and both are read alike.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0019_page_text"
down_revision: str | None = "0018_degraded"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE pages ALTER COLUMN text SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE pages ALTER COLUMN text SET STORAGE EXTENDED")
