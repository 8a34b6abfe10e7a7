"""The audit log: who did what, when, from where, on which object. Append-only, and written by the database itself.

Revision: 0004_audit

A trigger for each act that is told, fired by the very statement that does it: so the entry is of the same transaction,
costs no round trip, and no service can forget it. Who acts is in the setting `ibid.origin` that every transaction begins
with (`app.db.engine`). Only columns named here are recorded; no hash and no secret is among them. What a statement takes
along by a foreign key is not told: the act on the object that it belonged to is.

The log outlives what it tells of, so nothing refers to organizations or users. The functions are `ibid_system`'s, which
may add entries and read them; `ibid_app` may read those of its organization. Nobody may change or remove one: for the
owner of the table, whom no privilege binds, a trigger says so. `purge_audit_log(keep)` is the owner's way, and leaves an
entry itself.

A downgrade drops the log.
"""

from collections.abc import Sequence
from typing import NamedTuple

from alembic import op

revision: str = "0004_audit"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_TABLE = (
    "SET LOCAL lock_timeout = '5s'",
    # Ids sort by their time: milliseconds, then what keeps them apart.
    """
    CREATE TABLE audit_log (
      id text NOT NULL DEFAULT 'aud_' || lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
                               || left(replace(gen_random_uuid()::text, '-', ''), 14)
        CONSTRAINT pk_audit_log PRIMARY KEY,
      occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      organization_id text,
      actor_kind text NOT NULL
        CONSTRAINT ck_audit_log_actor_kind CHECK (actor_kind IN ('user', 'api_key', 'operator', 'system', 'anonymous')),
      actor_id text,
      actor_name text NOT NULL,
      action text NOT NULL,
      object_type text NOT NULL,
      object_id text,
      object_name text,
      address text,
      request_id text,
      before jsonb,
      after jsonb
    )
    """,
    "CREATE INDEX ix_audit_log_newest ON audit_log (organization_id, occurred_at DESC, id DESC)",
    "CREATE INDEX ix_audit_log_newest_of_all ON audit_log (occurred_at DESC, id DESC)",
    "CREATE INDEX ix_audit_log_object ON audit_log (object_id, occurred_at DESC)",
    "CREATE INDEX ix_audit_log_actor ON audit_log (actor_id, occurred_at DESC)",
    "ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE audit_log FORCE ROW LEVEL SECURITY",
    "CREATE POLICY system ON audit_log TO ibid_system USING (true) WITH CHECK (true)",
    "CREATE POLICY organization ON audit_log TO ibid_app"
    " USING (organization_id = current_setting('ibid.organization_id', true))",
    "GRANT SELECT, INSERT ON audit_log TO ibid_system",
    "GRANT SELECT ON audit_log TO ibid_app",
    """
    CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log"
    " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
)

_FUNCTIONS = (
    # An anonymous request becomes the act of the user whom it was about once that user has proven to be it (`_subject`).
    """
    CREATE FUNCTION audit_write(
      _action text, _organization_id text, _object_type text, _object_id text, _object_name text,
      _before jsonb, _after jsonb, _subject text DEFAULT NULL
    ) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DECLARE
      _origin jsonb := nullif(current_setting('ibid.origin', true), '')::jsonb;
      _kind text := coalesce(_origin ->> 'kind', 'system');
      _actor text := _origin ->> 'id';
      _name text;
    BEGIN
      IF _kind = 'anonymous' AND _subject IS NOT NULL THEN
        _kind := 'user';
        _actor := _subject;
      END IF;
      IF _object_type = 'user' AND _object_name IS NULL THEN
        SELECT email INTO _object_name FROM users WHERE id = _object_id;
      END IF;
      IF _kind = 'user' THEN
        SELECT email INTO _name FROM users WHERE id = _actor;
      ELSIF _kind = 'api_key' THEN
        SELECT name INTO _name FROM api_keys WHERE id = _actor;
      END IF;
      IF _name IS NULL AND _actor = _object_id THEN
        _name := _object_name;  -- who deletes their own account is not to be looked up any more
      END IF;
      INSERT INTO audit_log (organization_id, actor_kind, actor_id, actor_name, action, object_type, object_id, object_name,
                             address, request_id, before, after)
      VALUES (_organization_id, _kind, _actor, coalesce(_name, _actor, _kind), _action, _object_type, _object_id,
              _object_name, _origin ->> 'address', _origin ->> 'request_id', _before, _after);
    END $$
    """,
    # The columns of a row that are told. With `_other`, only those that differ from it, and those marked by `=`.
    """
    CREATE FUNCTION audit_values(_row jsonb, _other jsonb, _columns text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
      SELECT jsonb_object_agg(ltrim(c, '='),
                              CASE WHEN length(_row ->> ltrim(c, '=')) > 1000
                                   THEN to_jsonb(left(_row ->> ltrim(c, '='), 1000) || '…')
                                   ELSE _row -> ltrim(c, '=') END)
        FROM unnest(_columns) AS c
       WHERE _row IS NOT NULL
         AND (_other IS NULL OR c LIKE '=%' OR _row -> c IS DISTINCT FROM _other -> c)
    $$
    """,
    # Arguments: action, type of the object, columns of its id, its name and the user who proves to act, columns to tell.
    """
    CREATE FUNCTION audit_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DECLARE
      _old jsonb := to_jsonb(OLD);
      _new jsonb := to_jsonb(NEW);
      _row jsonb := coalesce(_new, _old);
      _action text := TG_ARGV[0];
      _columns text[] := TG_ARGV[5:];
    BEGIN
      IF _action = 'user.created' AND nullif(current_setting('ibid.origin', true), '')::jsonb ->> 'kind' = 'anonymous' THEN
        _action := 'user.signed_up';
      END IF;
      PERFORM audit_write(
        _action, coalesce(_row ->> 'organization_id', _row ->> 'id'), TG_ARGV[1], _row ->> TG_ARGV[2], _row ->> TG_ARGV[3],
        audit_values(_old, _new, _columns), audit_values(_new, _old, _columns), _row ->> TG_ARGV[4]);
      RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION purge_audit_log(_keep interval) RETURNS bigint LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    DECLARE
      _purged bigint;
    BEGIN
      IF _keep < interval '1 day' THEN
        RAISE EXCEPTION 'the audit log of the last day is kept in any case';
      END IF;
      ALTER TABLE audit_log NO FORCE ROW LEVEL SECURITY, DISABLE TRIGGER append_only;
      DELETE FROM audit_log WHERE occurred_at < now() - _keep;
      GET DIAGNOSTICS _purged = ROW_COUNT;
      ALTER TABLE audit_log FORCE ROW LEVEL SECURITY, ENABLE TRIGGER append_only;
      PERFORM audit_write('audit.purged', NULL, 'audit_log', NULL, NULL, NULL,
                          jsonb_build_object('entries', _purged, 'older_than', now() - _keep));
      RETURN _purged;
    END $$
    """,
    "REVOKE EXECUTE ON FUNCTION purge_audit_log(interval) FROM PUBLIC",
    "REVOKE EXECUTE ON FUNCTION audit_write(text, text, text, text, text, jsonb, jsonb, text) FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION audit_write(text, text, text, text, text, jsonb, jsonb, text) TO ibid_system",
)

_ON_BEHALF = "current_setting('ibid.origin', true) <> ''"


class _Act(NamedTuple):
    """`of`: type of the object, columns of its id and name. `tells`: columns to record, one with `=` in any case.

    An UPDATE is told when one of the columns `changed` did, or under the condition `when`. `actor` is the column of the
    user who, if the request is anonymous, has just proven to be that user.
    """

    table: str
    moment: str
    action: str
    of: str
    tells: str = ""
    changed: str = ""
    when: str = ""
    actor: str = "-"


_ORGANIZATION, _USER, _OF_USER = "organization id name", "user id email", "user user_id -"
_KEY, _INVITATION = "api_key id name", "invitation id email"
_COLLECTION, _OF_COLLECTION, _DOCUMENT = (
    "collection id name",
    "collection collection_id -",
    "document id title",
)
_KEY_COLUMNS = "name scopes collection_ids expires_at"
_COLLECTION_COLUMNS = "name description visibility owner_id"
_DOCUMENT_COLUMNS = "title source tags metadata_json collection_id"


def _set(column: str) -> str:
    return f"NEW.{column} IS NOT NULL AND OLD.{column} IS NULL"


_ACTS = (
    _Act("organizations", "INSERT", "organization.created", _ORGANIZATION, "name"),
    _Act("organizations", "UPDATE", "organization.changed", _ORGANIZATION, "name", changed="name"),
    _Act("organizations", "DELETE", "organization.deleted", _ORGANIZATION, "name"),
    _Act("users", "INSERT", "user.created", _USER, "email name role is_active", actor="id"),
    _Act("users", "UPDATE", "user.changed", _USER, "name email", changed="name email"),
    _Act("users", "UPDATE", "user.role_changed", _USER, "role", changed="role"),
    _Act(
        "users", "UPDATE", "user.deactivated", _USER, "is_active", when="OLD.is_active AND NOT NEW.is_active"
    ),
    _Act(
        "users", "UPDATE", "user.reactivated", _USER, "is_active", when="NEW.is_active AND NOT OLD.is_active"
    ),
    _Act("users", "DELETE", "user.deleted", _USER, "email name role"),
    _Act("users", "UPDATE", "password.changed", _USER, changed="password_hash", actor="id"),
    _Act(
        "users",
        "UPDATE",
        "totp.enrolment_started",
        _USER,
        changed="totp_secret",
        # Not when it is switched off, and not when all secrets are encrypted anew.
        when=f"NEW.totp_secret IS NOT NULL AND OLD.totp_enabled_at IS NULL AND {_ON_BEHALF}",
    ),
    _Act("users", "UPDATE", "totp.enabled", _USER, when=_set("totp_enabled_at")),
    _Act(
        "users",
        "UPDATE",
        "totp.disabled",
        _USER,
        when="NEW.totp_enabled_at IS NULL AND OLD.totp_enabled_at IS NOT NULL",
    ),
    _Act("recovery_codes", "UPDATE", "recovery_code.used", _OF_USER, when=_set("used_at"), actor="user_id"),
    _Act("logins", "INSERT", "login.succeeded", _OF_USER, "id", actor="user_id"),
    _Act("logins", "UPDATE", "login.ended", _OF_USER, "=id", when=_set("ended_at")),
    _Act("password_resets", "INSERT", "password_reset.created", _OF_USER, "expires_at"),
    _Act("password_resets", "UPDATE", "password_reset.used", _OF_USER, when=_set("used_at"), actor="user_id"),
    _Act("invitations", "INSERT", "invitation.created", _INVITATION, "email role expires_at"),
    _Act("invitations", "UPDATE", "invitation.accepted", _INVITATION, "=role", when=_set("accepted_at")),
    _Act(
        "invitations",
        "DELETE",
        "invitation.withdrawn",
        _INVITATION,
        "email role",
        when=f"OLD.accepted_at IS NULL AND {_ON_BEHALF}",  # not when expired ones are cleared away
    ),
    _Act("api_keys", "INSERT", "api_key.created", _KEY, f"{_KEY_COLUMNS} public_part created_by"),
    _Act("api_keys", "UPDATE", "api_key.changed", _KEY, _KEY_COLUMNS, changed=_KEY_COLUMNS),
    _Act("api_keys", "UPDATE", "api_key.revoked", _KEY, "revoked_at", when=_set("revoked_at")),
    _Act("collections", "INSERT", "collection.created", _COLLECTION, _COLLECTION_COLUMNS),
    _Act(
        "collections",
        "UPDATE",
        "collection.changed",
        _COLLECTION,
        _COLLECTION_COLUMNS,
        changed=_COLLECTION_COLUMNS,
    ),
    _Act("collections", "DELETE", "collection.deleted", _COLLECTION, _COLLECTION_COLUMNS),
    _Act("collection_users", "INSERT", "access.granted", _OF_COLLECTION, "user_id permission"),
    _Act(
        "collection_users",
        "UPDATE",
        "access.changed",
        _OF_COLLECTION,
        "=user_id permission",
        changed="permission",
    ),
    _Act("collection_users", "DELETE", "access.revoked", _OF_COLLECTION, "user_id permission"),
    _Act(
        "documents",
        "INSERT",
        "document.ingested",
        _DOCUMENT,
        "title source collection_id content_type size_bytes",
    ),
    _Act("documents", "UPDATE", "document.replaced", _DOCUMENT, "size_bytes sha256", changed="sha256"),
    _Act("documents", "UPDATE", "document.changed", _DOCUMENT, _DOCUMENT_COLUMNS, changed=_DOCUMENT_COLUMNS),
    _Act("documents", "DELETE", "document.deleted", _DOCUMENT, "title source collection_id size_bytes"),
)


def _name(act: _Act) -> str:
    return f"audit_{act.action.replace('.', '_')}"


def _trigger(act: _Act) -> str:
    conditions = ["pg_trigger_depth() = 0"]  # a statement's own rows, not those that foreign keys take along
    if act.changed:
        old, new = (", ".join(f"{row}.{column}" for column in act.changed.split()) for row in ("OLD", "NEW"))
        conditions.append(f"ROW({old}) IS DISTINCT FROM ROW({new})")
    if act.when:
        conditions.append(act.when)
    arguments = ", ".join(
        f"'{part}'" for part in (act.action, *act.of.split(), act.actor, *act.tells.split())
    )
    return (
        f"CREATE TRIGGER {_name(act)} AFTER {act.moment} ON {act.table} FOR EACH ROW"
        f" WHEN ({' AND '.join(conditions)}) EXECUTE FUNCTION audit_row({arguments})"
    )


_OWNERSHIP = """
DO $$ BEGIN
  EXECUTE format('GRANT CREATE ON SCHEMA %I TO ibid_system', current_schema());
  ALTER FUNCTION audit_write(text, text, text, text, text, jsonb, jsonb, text) OWNER TO ibid_system;
  ALTER FUNCTION audit_row() OWNER TO ibid_system;
  EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM ibid_system', current_schema());
END $$
"""


def upgrade() -> None:
    for statement in (*_TABLE, *_FUNCTIONS):
        op.execute(statement)
    for act in _ACTS:
        op.execute(_trigger(act))
    op.execute(_OWNERSHIP)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for act in _ACTS:
        op.execute(f"DROP TRIGGER {_name(act)} ON {act.table}")
    op.execute("DROP FUNCTION purge_audit_log(interval), audit_row(), audit_values(jsonb, jsonb, text[])")
    op.execute("DROP FUNCTION audit_write(text, text, text, text, text, jsonb, jsonb, text)")
    op.execute("DROP TABLE audit_log")
    op.execute("DROP FUNCTION audit_refuse()")
