"""Who may see a collection: open to the organization, restricted to a list of users, or one user's own.

Revision: 0003

A downgrade drops the lists, and with them what kept restricted and personal collections from the rest of their
organization.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_UP = (
    "SET LOCAL lock_timeout = '5s'",
    # With the organization in the key, nobody of another one can own a collection or stand on its list.
    "ALTER TABLE users ADD CONSTRAINT uq_users_organization_id_id UNIQUE (organization_id, id)",
    """
    ALTER TABLE collections
      ADD COLUMN description text NOT NULL DEFAULT '',
      ADD COLUMN visibility text NOT NULL DEFAULT 'organization'
        CONSTRAINT ck_collections_visibility CHECK (visibility IN ('organization', 'restricted')),
      ADD COLUMN owner_id text,
      ADD COLUMN created_by text,
      ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
      ADD CONSTRAINT fk_collections_organization_id_owner_id_users
        FOREIGN KEY (organization_id, owner_id) REFERENCES users (organization_id, id) ON DELETE SET NULL (owner_id),
      ADD CONSTRAINT ck_collections_personal
        CHECK (owner_id IS NULL OR (visibility = 'restricted' AND NOT is_default))
    """,
    "CREATE UNIQUE INDEX uq_collections_owner ON collections (organization_id, owner_id) WHERE owner_id IS NOT NULL",
    "CREATE INDEX ix_collections_newest ON collections (organization_id, created_at DESC, id DESC)",
    """
    CREATE TABLE collection_users (
      collection_id text NOT NULL,
      user_id text NOT NULL,
      organization_id text NOT NULL,
      permission text NOT NULL CONSTRAINT ck_collection_users_permission CHECK (permission IN ('read', 'write')),
      created_at timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT pk_collection_users PRIMARY KEY (collection_id, user_id),
      CONSTRAINT fk_collection_users_organization_id_collection_id_collections
        FOREIGN KEY (organization_id, collection_id) REFERENCES collections (organization_id, id) ON DELETE CASCADE,
      CONSTRAINT fk_collection_users_organization_id_user_id_users
        FOREIGN KEY (organization_id, user_id) REFERENCES users (organization_id, id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_collection_users_user ON collection_users (organization_id, user_id)",
    "ALTER TABLE collection_users ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE collection_users FORCE ROW LEVEL SECURITY",
    "CREATE POLICY system ON collection_users TO ibid_system USING (true) WITH CHECK (true)",
    "CREATE POLICY organization ON collection_users TO ibid_app"
    " USING (organization_id = current_setting('ibid.organization_id', true))",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON collection_users TO ibid_app, ibid_system",
)

_DOWN = (
    "SET LOCAL lock_timeout = '5s'",
    "DROP TABLE collection_users",
    "DROP INDEX ix_collections_newest",
    """
    ALTER TABLE collections
      DROP CONSTRAINT ck_collections_personal, DROP CONSTRAINT fk_collections_organization_id_owner_id_users,
      DROP COLUMN updated_at, DROP COLUMN created_by, DROP COLUMN owner_id, DROP COLUMN visibility,
      DROP COLUMN description
    """,
    "ALTER TABLE users DROP CONSTRAINT uq_users_organization_id_id",
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
