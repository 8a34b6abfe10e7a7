"""A message records what the guardrails did for it: kinds and counts, never what was found.

Revision: 0011_guardrails
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0011_guardrails"
down_revision: str | None = "0010_rebuild"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE messages ADD COLUMN guardrails jsonb")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE messages DROP COLUMN guardrails")
