"""The index may be built anew beside the one that is served: by another model, of another dimension, in other chunks.

Revision: 0010_rebuild

A chunk belongs to a build of the index, named in `chunks.embedding_model`: the first build is named like its model, a later
one has its number behind that. `index_state` says which build is served; `documents.built_for` which rebuild has a document as
it is now, or, negative, is at work on it. `hold_index` is called first by every transaction that stores chunks: until its end the
index is not switched, and what it returns is what is served. `workers` are the processes that process documents, with the time of their last sign of life.
A downgrade keeps the chunks that are served; those of a build that was under way go.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0010_rebuild"
down_revision: str | None = "0009_ingest"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_UP = (
    "SET LOCAL lock_timeout = '5s'",
    """
    ALTER TABLE index_state
      ADD COLUMN build text,
      ADD COLUMN number bigint NOT NULL DEFAULT 0,
      ADD COLUMN requested_dimension integer,
      ADD COLUMN chunk_size_tokens integer,
      ADD COLUMN chunk_overlap_tokens integer
    """,
    "ALTER TABLE documents ADD COLUMN built_for bigint NOT NULL DEFAULT 0",
    "CREATE INDEX ix_documents_built_for ON documents (built_for, id)",
    # Two files that become the same are one document, which remembers both.
    "ALTER TABLE documents ADD COLUMN other_origins text[] NOT NULL DEFAULT '{}'",
    "CREATE INDEX ix_documents_other_origins ON documents USING gin (other_origins) WHERE other_origins <> '{}'",
    "ALTER TABLE jobs ADD COLUMN from_pages boolean NOT NULL DEFAULT false",
    "ALTER TABLE chunks DROP CONSTRAINT uq_chunks_document_id_ordinal",
    "CREATE UNIQUE INDEX uq_chunks_place ON chunks (document_id, ordinal, hashtext(embedding_model))",
    """
    CREATE TABLE index_rebuilds (
      id text CONSTRAINT pk_index_rebuilds PRIMARY KEY,
      number bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
      organization_id text
        CONSTRAINT fk_index_rebuilds_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      state text NOT NULL CONSTRAINT ck_index_rebuilds_state
        CHECK (state IN ('running', 'switched', 'completed', 'cancelling', 'cancelled', 'failed')),
      embedding_model text NOT NULL,
      dimension integer NOT NULL,
      requested_dimension integer,
      chunk_size_tokens integer,
      chunk_overlap_tokens integer,
      splitter text,
      previous_build text,
      documents_total integer NOT NULL DEFAULT 0,
      error jsonb,
      started_by text,
      created_at timestamptz NOT NULL DEFAULT now(),
      began_at timestamptz,
      switched_at timestamptz,
      ended_at timestamptz
    )
    """,
    # One at a time for the installation, and one for each organization.
    "CREATE UNIQUE INDEX uq_index_rebuilds_active ON index_rebuilds (coalesce(organization_id, ''))"
    " WHERE ended_at IS NULL",
    """
    CREATE TABLE rebuild_claims (
      document_id text CONSTRAINT pk_rebuild_claims PRIMARY KEY
        CONSTRAINT fk_rebuild_claims_document_id_documents REFERENCES documents ON DELETE CASCADE,
      organization_id text NOT NULL,
      claimed_by text NOT NULL,
      available_at timestamptz NOT NULL,
      attempts integer NOT NULL DEFAULT 1
    )
    """,
    """
    CREATE TABLE workers (
      name text CONSTRAINT pk_workers PRIMARY KEY,
      concurrency integer NOT NULL,
      started_at timestamptz NOT NULL DEFAULT now(),
      seen_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO ibid_system",
    # Original files, where they have no other place that lasts. They are packed already, so nothing tries to pack them again.
    """
    CREATE TABLE stored_files (
      storage_key text NOT NULL,
      number integer NOT NULL,
      content bytea NOT NULL,
      CONSTRAINT pk_stored_files PRIMARY KEY (storage_key, number)
    )
    """,
    "ALTER TABLE stored_files ALTER COLUMN content SET STORAGE EXTERNAL",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON stored_files TO ibid_system",
    # The lock is taken before the state is read: a statement that did both would read what was there before it waited.
    """
    DO $do$ BEGIN
      EXECUTE format($definition$
        CREATE FUNCTION hold_index() RETURNS text LANGUAGE plpgsql VOLATILE SET search_path = %I, pg_temp AS $body$
        BEGIN
          PERFORM pg_advisory_xact_lock_shared(hashtext('ibid index switch'));
          RETURN (SELECT coalesce(build, embedding_model) FROM index_state);
        END $body$
      $definition$, current_schema());
    END $do$
    """,
)
_READABLE = """
DO $$ BEGIN
  EXECUTE format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA %I TO ibid_system', current_schema());
END $$
"""
"""For a backup by whoever migrates, as in 0005."""

_WALLED = ("index_rebuilds", "rebuild_claims")
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
    "SET LOCAL ROLE ibid_system",  # whoever migrates is bound by the policies otherwise
    "DELETE FROM chunks c USING index_state s WHERE c.embedding_model <> coalesce(s.build, s.embedding_model)"
    " AND EXISTS (SELECT FROM index_rebuilds r WHERE r.ended_at IS NULL)",
    "UPDATE chunks c SET embedding_model = s.embedding_model FROM index_state s WHERE c.embedding_model = s.build",
    "RESET ROLE",
    "DROP FUNCTION hold_index()",
    "DROP TABLE stored_files, workers, rebuild_claims, index_rebuilds",
    "DROP INDEX uq_chunks_place",
    "ALTER TABLE chunks ADD CONSTRAINT uq_chunks_document_id_ordinal UNIQUE (document_id, ordinal)",
    "ALTER TABLE jobs DROP COLUMN from_pages",
    "DROP INDEX ix_documents_other_origins",
    "DROP INDEX ix_documents_built_for",
    "ALTER TABLE documents DROP COLUMN other_origins, DROP COLUMN built_for",
    "ALTER TABLE index_state DROP COLUMN chunk_overlap_tokens, DROP COLUMN chunk_size_tokens,"
    " DROP COLUMN requested_dimension, DROP COLUMN number, DROP COLUMN build",
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)
    op.execute(_READABLE)
    for table in _WALLED:
        for statement in _WALL:
            op.execute(statement.format(table=table))


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
