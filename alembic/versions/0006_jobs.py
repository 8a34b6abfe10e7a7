"""Files, the queue that processes them, and what makes a repeated request harmless.

Revision: 0006_jobs

A document has the version that is served and, while it is being replaced, a `pending` one. A job is the wish to process a
document's newest generation; each document has one at most. `file_deletions` is written before a file is, and whenever a
document lets go of one (a trigger, so that cascades count too): no file is left without somebody who will remove it.
A downgrade forgets which files belonged to whom and leaves them where they are.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0006_jobs"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_UP = (
    "SET LOCAL lock_timeout = '5s'",
    """
    ALTER TABLE documents
      ADD COLUMN filename text,
      ADD COLUMN url text,
      ADD COLUMN origin text,
      ADD COLUMN stage text
        CONSTRAINT ck_documents_stage CHECK (stage IN ('parsing', 'chunking', 'embedding', 'indexing')),
      ADD COLUMN progress real NOT NULL DEFAULT 0,
      ADD COLUMN error jsonb,
      ADD COLUMN attempts integer NOT NULL DEFAULT 0,
      ADD COLUMN revision integer NOT NULL DEFAULT 0,
      ADD COLUMN storage_key text,
      ADD COLUMN storage_sha256 text,
      ADD COLUMN pending jsonb,
      ADD COLUMN extraction jsonb NOT NULL DEFAULT '{}'
    """,
    # A path or an address is one document of a collection, whatever it holds today.
    "CREATE UNIQUE INDEX uq_documents_origin ON documents (collection_id, origin) WHERE origin IS NOT NULL",
    "ALTER TABLE pages ADD COLUMN label text, ADD COLUMN headings jsonb, ADD COLUMN boxes jsonb",
    """
    ALTER TABLE collections
      ADD COLUMN chunk_size_tokens integer
        CONSTRAINT ck_collections_chunk_size CHECK (chunk_size_tokens BETWEEN 16 AND 8000),
      ADD COLUMN chunk_overlap_tokens integer
        CONSTRAINT ck_collections_chunk_overlap CHECK (chunk_overlap_tokens BETWEEN 0 AND 4000),
      ADD COLUMN splitter text NOT NULL DEFAULT 'sentences'
        CONSTRAINT ck_collections_splitter CHECK (splitter IN ('sentences', 'headings', 'lines'))
    """,
    """
    CREATE TABLE jobs (
      document_id text CONSTRAINT pk_jobs PRIMARY KEY
        CONSTRAINT fk_jobs_document_id_documents REFERENCES documents ON DELETE CASCADE,
      organization_id text NOT NULL,
      generation integer NOT NULL,
      rank timestamptz NOT NULL DEFAULT now(),
      available_at timestamptz NOT NULL DEFAULT now(),
      claimed_by text,
      attempts integer NOT NULL DEFAULT 0,
      postponed integer NOT NULL DEFAULT 0,
      created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX ix_jobs_turn ON jobs (organization_id, rank)",
    """
    CREATE TABLE job_turns (
      organization_id text CONSTRAINT pk_job_turns PRIMARY KEY
        CONSTRAINT fk_job_turns_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      served_at timestamptz NOT NULL
    )
    """,
    # Without a foreign key: when an organization goes, its files have yet to.
    """
    CREATE TABLE file_deletions (
      storage_key text CONSTRAINT pk_file_deletions PRIMARY KEY,
      organization_id text NOT NULL,
      due_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX ix_file_deletions_due_at ON file_deletions (due_at)",
    """
    CREATE TABLE idempotency_keys (
      organization_id text NOT NULL
        CONSTRAINT fk_idempotency_keys_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      owner_id text NOT NULL,
      key text NOT NULL,
      route text NOT NULL,
      fingerprint text,
      status integer,
      body jsonb,
      locked_until timestamptz NOT NULL,
      expires_at timestamptz NOT NULL,
      CONSTRAINT pk_idempotency_keys PRIMARY KEY (organization_id, owner_id, key)
    )
    """,
    "CREATE INDEX ix_idempotency_keys_expires_at ON idempotency_keys (expires_at)",
    # It runs as the role that sees all: in a cascade nobody's organization may be set.
    """
    DO $do$ BEGIN
      EXECUTE format($definition$
        CREATE FUNCTION forget_files() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = %I, pg_temp AS $body$
        DECLARE
          kept text[] := '{}';
        BEGIN
          IF TG_OP = 'UPDATE' THEN
            kept := array_remove(ARRAY[NEW.storage_key, NEW.pending ->> 'storage_key'], NULL);
          END IF;
          INSERT INTO file_deletions (storage_key, organization_id)
          SELECT DISTINCT key, OLD.organization_id
            FROM unnest(ARRAY[OLD.storage_key, OLD.pending ->> 'storage_key']) AS key
           WHERE key IS NOT NULL AND NOT key = ANY(kept)
          ON CONFLICT (storage_key) DO UPDATE SET due_at = now();
          RETURN NULL;
        END $body$
      $definition$, current_schema());
    END $do$
    """,
    "CREATE TRIGGER forget_files AFTER DELETE ON documents FOR EACH ROW"
    " WHEN (OLD.storage_key IS NOT NULL OR OLD.pending IS NOT NULL) EXECUTE FUNCTION forget_files()",
    "CREATE TRIGGER replace_files AFTER UPDATE OF storage_key, pending ON documents FOR EACH ROW"
    " WHEN (OLD.storage_key IS DISTINCT FROM NEW.storage_key OR OLD.pending IS DISTINCT FROM NEW.pending)"
    " EXECUTE FUNCTION forget_files()",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON jobs, file_deletions, idempotency_keys TO ibid_app",
)
_WALLED = ("jobs", "job_turns", "file_deletions", "idempotency_keys")
_WALL = (
    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
    "CREATE POLICY system ON {table} TO ibid_system USING (true) WITH CHECK (true)",
    "CREATE POLICY organization ON {table} TO ibid_app"
    " USING (organization_id = current_setting('ibid.organization_id', true))",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO ibid_system",
)
_OWNER = """
DO $$ BEGIN
  EXECUTE format('GRANT CREATE ON SCHEMA %I TO ibid_system', current_schema());
  ALTER FUNCTION forget_files() OWNER TO ibid_system;
  EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM ibid_system', current_schema());
END $$
"""
_DOWN = (
    "SET LOCAL lock_timeout = '5s'",
    "DROP TRIGGER replace_files ON documents",
    "DROP TRIGGER forget_files ON documents",
    "DROP FUNCTION forget_files()",
    "DROP TABLE idempotency_keys, file_deletions, job_turns, jobs",
    "ALTER TABLE collections DROP COLUMN splitter, DROP COLUMN chunk_overlap_tokens, DROP COLUMN chunk_size_tokens",
    "ALTER TABLE pages DROP COLUMN boxes, DROP COLUMN headings, DROP COLUMN label",
    "DROP INDEX uq_documents_origin",
    """
    ALTER TABLE documents
      DROP COLUMN extraction, DROP COLUMN pending, DROP COLUMN storage_sha256, DROP COLUMN storage_key,
      DROP COLUMN revision, DROP COLUMN attempts, DROP COLUMN error, DROP COLUMN progress, DROP COLUMN stage,
      DROP COLUMN origin, DROP COLUMN url, DROP COLUMN filename
    """,
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)
    for table in _WALLED:
        for statement in _WALL:
            op.execute(statement.format(table=table))
    op.execute(_OWNER)


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
