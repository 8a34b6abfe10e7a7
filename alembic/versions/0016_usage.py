"""What models were called for and cost, budgets, and what is spent and reserved of them.

Revision: 0016_usage

The ledger `usage_events` outlives what it tells of, so it refers to organizations alone; callers add to it and read it, and
nobody changes it. A budget is a decision (audited, announced to all processes with the change); what is spent and reserved
of it changes with every turn and stands in tables of its own, one row for each subject, so that turns of different users
wait for each other only where a budget is theirs together.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0016_usage"
down_revision: str | None = "0015_evaluations"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_ORGANIZATION = (
    "organization_id text NOT NULL"
    " CONSTRAINT fk_{table}_organization_id_organizations REFERENCES organizations ON DELETE CASCADE"
)
_TOLD = "'subject', '=subject_id', '=period', 'max_tokens', 'max_cost_usd', 'ceiling'"
_CHANGED = "ROW(OLD.max_tokens, OLD.max_cost_usd) IS DISTINCT FROM ROW(NEW.max_tokens, NEW.max_cost_usd)"
_UP = (
    "SET LOCAL lock_timeout = '5s'",
    f"""
    CREATE TABLE usage_events (
      id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_usage_events PRIMARY KEY,
      {_ORGANIZATION.format(table="usage_events")},
      caller_kind text NOT NULL,
      caller_id text NOT NULL,
      bot_id text,
      session_id text,
      message_id text,
      purpose text NOT NULL,
      model text NOT NULL,
      prompt_tokens bigint NOT NULL,
      completion_tokens bigint NOT NULL,
      cost_usd numeric,
      estimated boolean NOT NULL DEFAULT false,
      created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX ix_usage_events_newest ON usage_events (organization_id, created_at)",
    "CREATE INDEX ix_usage_events_caller ON usage_events (organization_id, caller_id, created_at)",
    f"""
    CREATE TABLE budgets (
      id text CONSTRAINT pk_budgets PRIMARY KEY,
      {_ORGANIZATION.format(table="budgets")},
      subject text NOT NULL CONSTRAINT ck_budgets_subject CHECK (subject IN ('organization', 'bot', 'user', 'key')),
      subject_id text,
      period text NOT NULL CONSTRAINT ck_budgets_period CHECK (period IN ('day', 'month')),
      max_tokens bigint,
      max_cost_usd numeric,
      ceiling boolean NOT NULL DEFAULT false,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT ck_budgets_limits CHECK (max_tokens IS NOT NULL OR max_cost_usd IS NOT NULL),
      CONSTRAINT uq_budgets_subject UNIQUE NULLS NOT DISTINCT (organization_id, subject, subject_id, period, ceiling)
    )
    """,
    f"""
    CREATE TABLE budget_spending (
      budget_id text CONSTRAINT fk_budget_spending_budget_id_budgets REFERENCES budgets ON DELETE CASCADE,
      subject_id text,
      {_ORGANIZATION.format(table="budget_spending")},
      period_start date NOT NULL,
      spent_tokens bigint NOT NULL,
      spent_usd numeric NOT NULL,
      reserved_tokens bigint NOT NULL,
      reserved_usd numeric NOT NULL,
      CONSTRAINT pk_budget_spending PRIMARY KEY (budget_id, subject_id)
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX ix_budget_spending_organization_id ON budget_spending (organization_id)",
    f"""
    CREATE TABLE budget_reservations (
      id text,
      budget_id text CONSTRAINT fk_budget_reservations_budget_id_budgets REFERENCES budgets ON DELETE CASCADE,
      subject_id text,
      {_ORGANIZATION.format(table="budget_reservations")},
      tokens bigint NOT NULL,
      usd numeric NOT NULL,
      expires_at timestamptz NOT NULL,
      CONSTRAINT pk_budget_reservations PRIMARY KEY (id, budget_id, subject_id)
    )
    """,
    "CREATE INDEX ix_budget_reservations_expires_at ON budget_reservations (expires_at)",
    "CREATE INDEX ix_budget_reservations_organization_id ON budget_reservations (organization_id)",
    "CREATE INDEX ix_budget_reservations_budget_id ON budget_reservations (budget_id)",
    """
    CREATE FUNCTION budgets_announce() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM pg_notify('ibid_budgets', '');
      RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER budgets_announce AFTER INSERT OR UPDATE OR DELETE ON budgets"
    " FOR EACH STATEMENT EXECUTE FUNCTION budgets_announce()",
    "CREATE TRIGGER audit_budget_created AFTER INSERT ON budgets FOR EACH ROW WHEN (pg_trigger_depth() = 0)"
    f" EXECUTE FUNCTION audit_row('budget.created', 'budget', 'id', 'subject_id', '-', {_TOLD})",
    f"CREATE TRIGGER audit_budget_changed AFTER UPDATE ON budgets FOR EACH ROW WHEN (pg_trigger_depth() = 0 AND {_CHANGED})"
    f" EXECUTE FUNCTION audit_row('budget.changed', 'budget', 'id', 'subject_id', '-', {_TOLD})",
    "CREATE TRIGGER audit_budget_deleted AFTER DELETE ON budgets FOR EACH ROW WHEN (pg_trigger_depth() = 0)"
    f" EXECUTE FUNCTION audit_row('budget.deleted', 'budget', 'id', 'subject_id', '-', {_TOLD})",
)
_TABLES = {
    "usage_events": "SELECT, INSERT",
    "budgets": "SELECT, INSERT, UPDATE, DELETE",
    "budget_spending": "SELECT, INSERT, UPDATE, DELETE",
    "budget_reservations": "SELECT, INSERT, UPDATE, DELETE",
}
_WALL = (
    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
    "CREATE POLICY system ON {table} TO ibid_system USING (true) WITH CHECK (true)",
    "CREATE POLICY organization ON {table} TO ibid_app"
    " USING (organization_id = current_setting('ibid.organization_id', true))"
    " WITH CHECK (organization_id = current_setting('ibid.organization_id', true))",
    "GRANT {privileges} ON {table} TO ibid_system, ibid_app",
)
_DOWN = (
    "SET LOCAL lock_timeout = '5s'",
    "DROP TABLE budget_reservations, budget_spending, budgets, usage_events",
    "DROP FUNCTION budgets_announce()",
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)
    for table, privileges in _TABLES.items():
        for statement in _WALL:
            op.execute(statement.format(table=table, privileges=privileges))


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
