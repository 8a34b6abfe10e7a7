"""An organization sees of its API keys whether they are live: a turn is opened and its key checked in one statement.

Revision ID: 0021_live_keys
Revises: 0020_pending_documents
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0021_live_keys"
down_revision: str | None = "0020_pending_documents"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.execute("GRANT SELECT (id, organization_id, revoked_at, expires_at) ON api_keys TO ibid_app")


def downgrade() -> None:
    op.execute("REVOKE SELECT (id, organization_id, revoked_at, expires_at) ON api_keys FROM ibid_app")
