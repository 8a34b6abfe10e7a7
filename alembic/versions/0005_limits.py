"""An API key's own limit of bursts; and the system's role may read all that a backup contains.

Revision: 0005
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0005"
down_revision: str | None = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_READABLE = """
DO $$ BEGIN
  GRANT SELECT ON alembic_version TO ibid_system;
  EXECUTE format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA %I TO ibid_system', current_schema());
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE api_keys ADD COLUMN rate_limit text")
    op.execute(_READABLE)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("REVOKE SELECT ON alembic_version FROM ibid_system")
    op.execute("ALTER TABLE api_keys DROP COLUMN rate_limit")
