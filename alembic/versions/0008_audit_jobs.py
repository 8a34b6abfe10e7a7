"""The audit log tells of processing that somebody starts again or stops; its functions trust no temporary table.

Revision: 0008_audit_jobs

Told is what a request does: the steps of a worker are no act of anybody. The search path of the functions, which run with more
rights than who fires them, ends with `pg_temp`: left out, it would come first, and a table made there under the name of the log
would take the entries.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0008_audit_jobs"
down_revision: str | None = "0006_jobs"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_BY_REQUEST = "(nullif(current_setting('ibid.origin', true), '')::jsonb ->> 'request_id') IS NOT NULL"
_UP = (
    "SET LOCAL lock_timeout = '5s'",
    "CREATE TRIGGER audit_document_reprocessed AFTER UPDATE ON documents FOR EACH ROW"
    " WHEN (pg_trigger_depth() = 0 AND NEW.generation <> OLD.generation AND NEW.sha256 = OLD.sha256"
    f" AND {_BY_REQUEST})"
    " EXECUTE FUNCTION audit_row('document.reprocessed', 'document', 'id', 'title', '-', 'generation')",
    "CREATE TRIGGER audit_processing_stopped AFTER DELETE ON jobs FOR EACH ROW"
    f" WHEN (pg_trigger_depth() = 0 AND {_BY_REQUEST})"
    " EXECUTE FUNCTION audit_row('processing.stopped', 'document', 'document_id', '-', '-', 'generation')",
)
_PATHS = """
DO $$
DECLARE signature text;
BEGIN
  FOREACH signature IN ARRAY ARRAY['audit_write(text, text, text, text, text, jsonb, jsonb, text)', 'audit_row()',
                                   'purge_audit_log(interval)'] LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', signature, current_schema());
  END LOOP;
END $$
"""


def upgrade() -> None:
    for statement in (*_UP, _PATHS):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER audit_processing_stopped ON jobs")
    op.execute("DROP TRIGGER audit_document_reprocessed ON documents")
