"""Bots: their versions, the collections they answer from, who may use them, and which version gave an answer.

Revision: 0012_bots

Answers and conversations name the version and the bot without a foreign key: they outlive them, and the turn, which every
question pays for, has nothing to look up. An API key that is bound to a bot goes with it: unbound it could do more than
it was made for.

A downgrade drops the bots, and the keys that are bound to them.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0012_bots"
down_revision: str | None = "0011_guardrails"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_TABLES = ("bots", "bot_versions", "bot_collections", "bot_users")
_OF_BOT = "FOREIGN KEY (organization_id, bot_id) REFERENCES bots (organization_id, id) ON DELETE CASCADE"

_UP = (
    "SET LOCAL lock_timeout = '5s'",
    """
    CREATE TABLE bots (
      id text CONSTRAINT pk_bots PRIMARY KEY,
      organization_id text NOT NULL
        CONSTRAINT fk_bots_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      name text NOT NULL,
      description text NOT NULL DEFAULT '',
      visibility text NOT NULL DEFAULT 'organization'
        CONSTRAINT ck_bots_visibility CHECK (visibility IN ('organization', 'restricted')),
      all_collections boolean NOT NULL DEFAULT true,
      version integer NOT NULL DEFAULT 1,
      revision integer NOT NULL DEFAULT 1,
      created_by text,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT uq_bots_organization_id_id UNIQUE (organization_id, id)
    )
    """,
    "CREATE UNIQUE INDEX uq_bots_name ON bots (organization_id, lower(name))",
    "CREATE INDEX ix_bots_newest ON bots (organization_id, created_at DESC, id DESC)",
    f"""
    CREATE TABLE bot_versions (
      id text CONSTRAINT pk_bot_versions PRIMARY KEY,
      organization_id text NOT NULL,
      bot_id text NOT NULL,
      number integer NOT NULL,
      settings jsonb NOT NULL,
      secrets jsonb NOT NULL DEFAULT '{{}}',
      note text NOT NULL DEFAULT '',
      created_by text,
      created_at timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT uq_bot_versions_organization_id_bot_id_number UNIQUE (organization_id, bot_id, number),
      CONSTRAINT fk_bot_versions_organization_id_bot_id_bots {_OF_BOT}
    )
    """,
    f"""
    CREATE TABLE bot_collections (
      bot_id text NOT NULL,
      collection_id text NOT NULL,
      organization_id text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT pk_bot_collections PRIMARY KEY (bot_id, collection_id),
      CONSTRAINT fk_bot_collections_organization_id_bot_id_bots {_OF_BOT},
      CONSTRAINT fk_bot_collections_organization_id_collection_id_collections
        FOREIGN KEY (organization_id, collection_id) REFERENCES collections (organization_id, id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_bot_collections_collection ON bot_collections (organization_id, collection_id)",
    f"""
    CREATE TABLE bot_users (
      bot_id text NOT NULL,
      user_id text NOT NULL,
      organization_id text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT pk_bot_users PRIMARY KEY (bot_id, user_id),
      CONSTRAINT fk_bot_users_organization_id_bot_id_bots {_OF_BOT},
      CONSTRAINT fk_bot_users_organization_id_user_id_users
        FOREIGN KEY (organization_id, user_id) REFERENCES users (organization_id, id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_bot_users_user ON bot_users (organization_id, user_id)",
    *(
        statement
        for table in _TABLES
        for statement in (
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY system ON {table} TO ibid_system USING (true) WITH CHECK (true)",
            f"CREATE POLICY organization ON {table} TO ibid_app"
            " USING (organization_id = current_setting('ibid.organization_id', true))",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO ibid_app, ibid_system",
        )
    ),
    "ALTER TABLE sessions ADD COLUMN bot_id text",
    "ALTER TABLE messages ADD COLUMN bot_version_id text",
    # Answers of the environment's bot are not in it, so that they don't pay for it.
    "CREATE INDEX ix_messages_bot_version ON messages (organization_id, bot_version_id, created_at)"
    " WHERE bot_version_id IS NOT NULL",
    f"ALTER TABLE api_keys ADD COLUMN bot_id text, ADD CONSTRAINT fk_api_keys_organization_id_bot_id_bots {_OF_BOT}",
    "CREATE INDEX ix_api_keys_bot ON api_keys (organization_id, bot_id) WHERE bot_id IS NOT NULL",
)

_BOT, _OF_A_BOT = "'bot', 'id', 'name', '-'", "'bot', 'bot_id', '-', '-'"
_BOT_COLUMNS = ("name", "description", "visibility", "all_collections")
_KEY_COLUMNS = "'name', 'scopes', 'collection_ids', 'expires_at'"
_ACTS = (
    ("bots", "INSERT", "bot.created", _BOT, _BOT_COLUMNS),
    ("bots", "UPDATE", "bot.changed", _BOT, _BOT_COLUMNS),
    ("bots", "DELETE", "bot.deleted", _BOT, _BOT_COLUMNS),
    ("bot_versions", "INSERT", "bot_version.added", _OF_A_BOT, ("number", "note")),
    ("bot_collections", "INSERT", "bot_collection.added", _OF_A_BOT, ("collection_id",)),
    ("bot_collections", "DELETE", "bot_collection.removed", _OF_A_BOT, ("collection_id",)),
    ("bot_users", "INSERT", "bot_access.granted", _OF_A_BOT, ("user_id",)),
    ("bot_users", "DELETE", "bot_access.revoked", _OF_A_BOT, ("user_id",)),
)
_KEY_CREATED = (
    "CREATE TRIGGER audit_api_key_created AFTER INSERT ON api_keys FOR EACH ROW WHEN (pg_trigger_depth() = 0)"
    " EXECUTE FUNCTION audit_row('api_key.created', 'api_key', 'id', 'name', '-', {columns})"
)


def _trigger(table: str, moment: str, action: str, of: str, columns: tuple[str, ...]) -> str:
    condition = "pg_trigger_depth() = 0"
    if moment == "UPDATE":
        old, new = (", ".join(f"{row}.{column}" for column in columns) for row in ("OLD", "NEW"))
        condition += f" AND ROW({old}) IS DISTINCT FROM ROW({new})"
    told = ", ".join(f"'{column}'" for column in columns)
    return (
        f"CREATE TRIGGER audit_{action.replace('.', '_')} AFTER {moment} ON {table} FOR EACH ROW WHEN ({condition})"
        f" EXECUTE FUNCTION audit_row('{action}', {of}, {told})"
    )


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)
    for act in _ACTS:
        op.execute(_trigger(*act))
    op.execute("DROP TRIGGER audit_api_key_created ON api_keys")
    op.execute(_KEY_CREATED.format(columns=f"{_KEY_COLUMNS}, 'bot_id', 'public_part', 'created_by'"))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER audit_api_key_created ON api_keys")
    op.execute(_KEY_CREATED.format(columns=f"{_KEY_COLUMNS}, 'public_part', 'created_by'"))
    op.execute("DELETE FROM api_keys WHERE bot_id IS NOT NULL")
    op.execute("ALTER TABLE api_keys DROP COLUMN bot_id")
    op.execute("DROP INDEX ix_messages_bot_version")
    op.execute("ALTER TABLE messages DROP COLUMN bot_version_id")
    op.execute("ALTER TABLE sessions DROP COLUMN bot_id")
    op.execute("DROP TABLE bot_users, bot_collections, bot_versions, bots")
