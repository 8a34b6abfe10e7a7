"""Question sets of an organization and the runs of its evaluations; the headings of chunks; titles that change.

Revision: 0015_evaluations

`chunks.heading` is the path of headings over a chunk; chunks of before have none until they are made anew. A document whose title
was changed has `terms_stale_from` until the terms of all its chunks know the new one. A run that is claimed is another worker's
when `available_at` has passed: evaluations survive their worker.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0015_evaluations"
down_revision: str | None = "0014_sessions"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_COLUMNS = (
    "id, organization_id, collection_id, document_id, ordinal, page, char_start, char_end, text, tags, metadata, language, terms,"
    " weights, embedding, embedding_model"
)
_VIEW = """
CREATE VIEW searchable_chunks AS
  SELECT {columns} FROM chunks WHERE organization_id = current_setting('ibid.organization_id', true)
"""
# A view runs as its owner, for whom the policies are no obstacle to an index; who queries it stays in its wall.
_HAND_OVER = (
    """
    DO $$ BEGIN
      EXECUTE format('GRANT CREATE ON SCHEMA %I TO ibid_system', current_schema());
      ALTER VIEW searchable_chunks OWNER TO ibid_system;
      EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM ibid_system', current_schema());
    END $$
    """,
    "GRANT SELECT ON searchable_chunks TO ibid_app",
)
_WALLED = ("evaluation_sets", "evaluation_runs")
_WALL = (
    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
    "CREATE POLICY system ON {table} TO ibid_system USING (true) WITH CHECK (true)",
    "CREATE POLICY organization ON {table} TO ibid_app"
    " USING (organization_id = current_setting('ibid.organization_id', true))",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO ibid_system, ibid_app",
)
_AUDITED = (
    (
        "INSERT",
        "evaluation_sets",
        "evaluation_set.created",
        "'evaluation_set', 'id', 'name', '-', 'name', 'question_count'",
    ),
    (
        "DELETE",
        "evaluation_sets",
        "evaluation_set.deleted",
        "'evaluation_set', 'id', 'name', '-', 'name', 'question_count'",
    ),
    (
        "INSERT",
        "evaluation_runs",
        "evaluation.started",
        "'evaluation', 'id', 'name', '-', 'set_id', 'bot_id'",
    ),
    (
        "DELETE",
        "evaluation_runs",
        "evaluation.deleted",
        "'evaluation', 'id', 'name', '-', 'set_id', 'status'",
    ),
)

_UP = (
    "SET LOCAL lock_timeout = '5s'",
    "ALTER TABLE chunks ADD COLUMN heading text",
    "ALTER TABLE documents ADD COLUMN terms_stale_from integer",
    "CREATE INDEX ix_documents_stale_terms ON documents (id) WHERE terms_stale_from IS NOT NULL",
    "DROP VIEW searchable_chunks",
    _VIEW.format(columns=f"{_COLUMNS}, heading"),
    *_HAND_OVER,
    """
    CREATE TABLE evaluation_sets (
      id text CONSTRAINT pk_evaluation_sets PRIMARY KEY,
      organization_id text NOT NULL
        CONSTRAINT fk_evaluation_sets_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      name text NOT NULL,
      questions jsonb NOT NULL,
      question_count integer NOT NULL,
      created_by text,
      created_at timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT uq_evaluation_sets_organization_id_id UNIQUE (organization_id, id),
      CONSTRAINT uq_evaluation_sets_organization_id_name UNIQUE (organization_id, name)
    )
    """,
    """
    CREATE TABLE evaluation_runs (
      id text CONSTRAINT pk_evaluation_runs PRIMARY KEY,
      organization_id text NOT NULL,
      set_id text NOT NULL,
      name text NOT NULL,
      bot_id text NOT NULL,
      with_answers boolean NOT NULL DEFAULT false,
      baseline_id text,
      status text NOT NULL DEFAULT 'queued'
        CONSTRAINT ck_evaluation_runs_status CHECK (status IN ('queued', 'running', 'completed', 'failed')),
      progress real NOT NULL DEFAULT 0,
      error jsonb,
      summary jsonb,
      result jsonb,
      claimed_by text,
      available_at timestamptz NOT NULL DEFAULT now(),
      attempts integer NOT NULL DEFAULT 0,
      created_by text,
      created_at timestamptz NOT NULL DEFAULT now(),
      ended_at timestamptz,
      CONSTRAINT fk_evaluation_runs_organization_id_set_id_evaluation_sets
        FOREIGN KEY (organization_id, set_id) REFERENCES evaluation_sets (organization_id, id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_evaluation_runs_newest ON evaluation_runs (organization_id, created_at DESC, id DESC)",
    "CREATE INDEX ix_evaluation_runs_set ON evaluation_runs (organization_id, set_id)",
    "CREATE INDEX ix_evaluation_runs_waiting ON evaluation_runs (available_at) WHERE status IN ('queued', 'running')",
    *(statement.format(table=table) for table in _WALLED for statement in _WALL),
    *(
        f"CREATE TRIGGER audit_{action.replace('.', '_')} AFTER {moment} ON {table} FOR EACH ROW"
        f" WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION audit_row('{action}', {arguments})"
        for moment, table, action, arguments in _AUDITED
    ),
)

_DOWN = (
    "SET LOCAL lock_timeout = '5s'",
    "DROP TABLE evaluation_runs, evaluation_sets",
    "DROP VIEW searchable_chunks",
    "ALTER TABLE documents DROP COLUMN terms_stale_from",
    "ALTER TABLE chunks DROP COLUMN heading",
    _VIEW.format(columns=_COLUMNS),
    *_HAND_OVER,
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
