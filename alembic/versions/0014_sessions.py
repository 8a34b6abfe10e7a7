"""Conversations as their owners keep them: pinned, summarised, shared by a link, judged, with files of their own.

Revision: 0014_sessions

The files of a session are documents of a collection that belongs to it and goes with it. The ids of such collections, and of no
others, sort from `sfc_` on: so whatever reads documents or chunks by the thousand tells them apart by one comparison of bytes.

A share is a copy of what the conversation was when it was shared. Its token is stored as a hash.

A downgrade deletes the files of sessions, which nothing would keep from the rest of their organization, and the shares.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0014_sessions"
down_revision: str | None = "0013_streams"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_UP = (
    "SET LOCAL lock_timeout = '5s'",
    """
    ALTER TABLE sessions
      ADD COLUMN pinned boolean NOT NULL DEFAULT false,
      ADD COLUMN title_source text NOT NULL DEFAULT 'question'
        CONSTRAINT ck_sessions_title_source CHECK (title_source IN ('question', 'file', 'model', 'person')),
      ADD COLUMN summary text,
      ADD COLUMN summary_through bigint,
      ADD CONSTRAINT ck_sessions_summary CHECK (num_nulls(summary, summary_through) IN (0, 2))
    """,
    "DROP INDEX ix_sessions_owner",
    "CREATE INDEX ix_sessions_owner ON sessions (organization_id, owner_id, pinned DESC, updated_at DESC, id DESC)",
    "ALTER TABLE messages ADD COLUMN feedback jsonb",
    """
    ALTER TABLE collections
      ADD COLUMN session_id text,
      ADD CONSTRAINT fk_collections_organization_id_session_id_sessions
        FOREIGN KEY (organization_id, session_id) REFERENCES sessions (organization_id, id) ON DELETE CASCADE,
      ADD CONSTRAINT ck_collections_session
        CHECK ((session_id IS NOT NULL) = (id COLLATE "C" >= 'sfc_')
               AND (session_id IS NULL OR (owner_id IS NULL AND visibility = 'restricted' AND NOT is_default)))
    """,
    "CREATE UNIQUE INDEX uq_collections_session ON collections (organization_id, session_id) WHERE session_id IS NOT NULL",
    """
    CREATE TABLE session_shares (
      id text CONSTRAINT pk_session_shares PRIMARY KEY,
      organization_id text NOT NULL,
      session_id text NOT NULL,
      token_hash text NOT NULL CONSTRAINT uq_session_shares_token_hash UNIQUE,
      title text NOT NULL,
      messages jsonb NOT NULL,
      expires_at timestamptz,
      created_at timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT fk_session_shares_organization_id_session_id_sessions
        FOREIGN KEY (organization_id, session_id) REFERENCES sessions (organization_id, id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_session_shares_session ON session_shares (organization_id, session_id, created_at DESC, id DESC)",
    "CREATE INDEX ix_session_shares_expires_at ON session_shares (expires_at) WHERE expires_at IS NOT NULL",
    "ALTER TABLE session_shares ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE session_shares FORCE ROW LEVEL SECURITY",
    "CREATE POLICY system ON session_shares TO ibid_system USING (true) WITH CHECK (true)",
    "CREATE POLICY organization ON session_shares TO ibid_app"
    " USING (organization_id = current_setting('ibid.organization_id', true))",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON session_shares TO ibid_app, ibid_system",
    "CREATE TRIGGER audit_share_created AFTER INSERT ON session_shares FOR EACH ROW"
    " EXECUTE FUNCTION audit_row('share.created', 'share', 'id', '-', '-', 'session_id', 'expires_at')",
    # Also of those that go with their session; not when expired ones are cleared away.
    "CREATE TRIGGER audit_share_revoked AFTER DELETE ON session_shares FOR EACH ROW"
    " WHEN (current_setting('ibid.origin', true) <> '')"
    " EXECUTE FUNCTION audit_row('share.revoked', 'share', 'id', '-', '-', 'session_id', 'expires_at')",
)

_DOWN = (
    "SET LOCAL lock_timeout = '5s'",
    "DROP TABLE session_shares",
    "SET LOCAL ROLE ibid_system",
    "DELETE FROM collections WHERE session_id IS NOT NULL",
    "RESET ROLE",
    """
    ALTER TABLE collections
      DROP CONSTRAINT ck_collections_session,
      DROP CONSTRAINT fk_collections_organization_id_session_id_sessions,
      DROP COLUMN session_id
    """,
    "ALTER TABLE messages DROP COLUMN feedback",
    "DROP INDEX ix_sessions_owner",
    "CREATE INDEX ix_sessions_owner ON sessions (organization_id, owner_id, updated_at DESC)",
    """
    ALTER TABLE sessions
      DROP CONSTRAINT ck_sessions_summary, DROP COLUMN summary_through, DROP COLUMN summary, DROP COLUMN title_source,
      DROP COLUMN pinned
    """,
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
