"""Accounts: logins with rotating refresh tokens, second factors, invitations, password resets, counted guesses.

Revision: 0002

Everything here is a credential or leads to one, so only `ibid_system` may touch it; the policies are there all the same.
A downgrade ends all logins and forgets second factors.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_UP = (
    "SET LOCAL lock_timeout = '5s'",
    """
    ALTER TABLE users
      ADD COLUMN name text NOT NULL DEFAULT '',
      ADD COLUMN password_changed_at timestamptz,
      ADD COLUMN totp_secret text,
      ADD COLUMN totp_enabled_at timestamptz,
      ADD COLUMN totp_last_step bigint
    """,
    """
    ALTER TABLE api_keys
      ADD COLUMN collection_ids text[],
      ADD COLUMN last_used_at timestamptz
    """,
    """
    CREATE TABLE logins (
      id text CONSTRAINT pk_logins PRIMARY KEY,
      organization_id text NOT NULL
        CONSTRAINT fk_logins_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      user_id text NOT NULL CONSTRAINT fk_logins_user_id_users REFERENCES users ON DELETE CASCADE,
      address text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      ended_at timestamptz
    )
    """,
    "CREATE INDEX ix_logins_organization_id ON logins (organization_id)",
    "CREATE INDEX ix_logins_user_id ON logins (user_id, created_at)",
    """
    CREATE TABLE refresh_tokens (
      token_hash text CONSTRAINT pk_refresh_tokens PRIMARY KEY,
      organization_id text NOT NULL
        CONSTRAINT fk_refresh_tokens_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      login_id text NOT NULL CONSTRAINT fk_refresh_tokens_login_id_logins REFERENCES logins ON DELETE CASCADE,
      created_at timestamptz NOT NULL DEFAULT now(),
      expires_at timestamptz NOT NULL,
      used_at timestamptz
    )
    """,
    "CREATE INDEX ix_refresh_tokens_organization_id ON refresh_tokens (organization_id)",
    "CREATE INDEX ix_refresh_tokens_login_id ON refresh_tokens (login_id)",
    """
    CREATE TABLE recovery_codes (
      user_id text NOT NULL CONSTRAINT fk_recovery_codes_user_id_users REFERENCES users ON DELETE CASCADE,
      code_hash text NOT NULL,
      organization_id text NOT NULL
        CONSTRAINT fk_recovery_codes_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      used_at timestamptz,
      CONSTRAINT pk_recovery_codes PRIMARY KEY (user_id, code_hash)
    )
    """,
    "CREATE INDEX ix_recovery_codes_organization_id ON recovery_codes (organization_id)",
    """
    CREATE TABLE invitations (
      id text CONSTRAINT pk_invitations PRIMARY KEY,
      organization_id text NOT NULL
        CONSTRAINT fk_invitations_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      email text NOT NULL,
      role text NOT NULL CONSTRAINT ck_invitations_role CHECK (role IN ('superadmin', 'admin', 'user')),
      token_hash text NOT NULL CONSTRAINT uq_invitations_token_hash UNIQUE,
      invited_by text,
      created_at timestamptz NOT NULL DEFAULT now(),
      expires_at timestamptz NOT NULL,
      accepted_at timestamptz
    )
    """,
    "CREATE INDEX ix_invitations_newest ON invitations (organization_id, created_at DESC, id DESC)",
    """
    CREATE TABLE password_resets (
      token_hash text CONSTRAINT pk_password_resets PRIMARY KEY,
      organization_id text NOT NULL
        CONSTRAINT fk_password_resets_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      user_id text NOT NULL CONSTRAINT fk_password_resets_user_id_users REFERENCES users ON DELETE CASCADE,
      created_by text,
      created_at timestamptz NOT NULL DEFAULT now(),
      expires_at timestamptz NOT NULL,
      used_at timestamptz
    )
    """,
    "CREATE INDEX ix_password_resets_organization_id ON password_resets (organization_id)",
    "CREATE INDEX ix_password_resets_user_id ON password_resets (user_id)",
    # Nobody's organization: a guess at an account that does not exist is counted as any other.
    """
    CREATE TABLE guesses (
      subject text CONSTRAINT pk_guesses PRIMARY KEY,
      moments timestamptz[] NOT NULL
    )
    """,
    "GRANT SELECT, INSERT, UPDATE, DELETE ON guesses TO ibid_system",
)
_WALLED = ("logins", "refresh_tokens", "recovery_codes", "invitations", "password_resets")
_WALL = (
    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
    "CREATE POLICY system ON {table} TO ibid_system USING (true) WITH CHECK (true)",
    "CREATE POLICY organization ON {table} TO ibid_app"
    " USING (organization_id = current_setting('ibid.organization_id', true))",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO ibid_system",
)
_DOWN = (
    "SET LOCAL lock_timeout = '5s'",
    "DROP TABLE guesses, password_resets, invitations, recovery_codes, refresh_tokens, logins",
    "ALTER TABLE api_keys DROP COLUMN last_used_at, DROP COLUMN collection_ids",
    """
    ALTER TABLE users
      DROP COLUMN totp_last_step, DROP COLUMN totp_enabled_at, DROP COLUMN totp_secret,
      DROP COLUMN password_changed_at, DROP COLUMN name
    """,
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)
    for table in _WALLED:
        for statement in _WALL:
            op.execute(statement.format(table=table))


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
