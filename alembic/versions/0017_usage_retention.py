"""The ledger may be kept for a limited time.

Revision ID: 0017_usage_retention
Revises: 0016_usage

Nobody but the service itself deletes from it, and that only where USAGE_RETENTION_DAYS says so: the roles of requests still
can neither change nor delete what they have added.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0017_usage_retention"
down_revision: str | None = "0016_usage"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("GRANT DELETE ON usage_events TO ibid_system")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("REVOKE DELETE ON usage_events FROM ibid_system")
