"""Answers that were stopped, branches of a conversation, and one-time tickets of WebSocket connections.

Revision: 0013_streams

A message's `parent_id` is the message that it follows; NULL follows the active one before it, which is what all messages
do until a session first branches, and '' nothing at all. `active` are the messages of the branch that is shown and gone
on with. The version before this one does not know stopped answers, so a downgrade makes interrupted ones of them; the
branches that were not shown come to stand between the others.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0013_streams"
down_revision: str | None = "0012_bots"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_UP = (
    "SET LOCAL lock_timeout = '5s'",
    """
    ALTER TABLE messages
      ADD COLUMN parent_id text,
      ADD COLUMN active boolean NOT NULL DEFAULT true,
      ADD COLUMN error jsonb,
      ADD COLUMN fallback text,
      DROP CONSTRAINT ck_messages_status,
      ADD CONSTRAINT ck_messages_status
        CHECK (status IN ('streaming', 'complete', 'stopped', 'interrupted', 'failed'))
    """,
    """
    CREATE TABLE socket_tickets (
      token_hash text CONSTRAINT pk_socket_tickets PRIMARY KEY,
      organization_id text NOT NULL
        CONSTRAINT fk_socket_tickets_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      credential_encrypted text NOT NULL,
      expires_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX ix_socket_tickets_expires_at ON socket_tickets (expires_at)",
    "ALTER TABLE socket_tickets ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE socket_tickets FORCE ROW LEVEL SECURITY",
    "CREATE POLICY system ON socket_tickets TO ibid_system USING (true) WITH CHECK (true)",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON socket_tickets TO ibid_system",
)
_DOWN = (
    "SET LOCAL lock_timeout = '5s'",
    "DROP TABLE socket_tickets",
    "UPDATE messages SET status = 'interrupted' WHERE status = 'stopped'",
    """
    ALTER TABLE messages
      DROP CONSTRAINT ck_messages_status,
      ADD CONSTRAINT ck_messages_status CHECK (status IN ('streaming', 'complete', 'interrupted', 'failed')),
      DROP COLUMN fallback, DROP COLUMN error, DROP COLUMN active, DROP COLUMN parent_id
    """,
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
