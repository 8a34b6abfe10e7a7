"""An answer keeps why its passages were found by words alone, as it keeps why another model gave it.

Revision ID: 0018_degraded
Revises: 0017_usage_retention
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0018_degraded"
down_revision: str | None = "0017_usage_retention"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE messages ADD COLUMN degraded text")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE messages DROP COLUMN degraded")
