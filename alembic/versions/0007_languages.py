"""Terms of any language beside each chunk, made by the service, in the place of PostgreSQL's text search.

Revision: 0007

Chunks that were stored before get their terms from the service's own maintenance: an upgrade is quick, and until that is
done they are found by their vectors alone. A downgrade computes the old column anew, which rewrites the table.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0007"
down_revision: str | None = "0004_audit"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_VIEWS = ("searchable_chunks", "matchable_chunks")
_CONFIGURATIONS = {
    **{"arabic": "ar", "armenian": "hy", "basque": "eu", "catalan": "ca", "danish": "da", "dutch": "nl"},
    **{"english": "en", "estonian": "et", "finnish": "fi", "french": "fr", "german": "de", "greek": "el"},
    **{
        "hindi": "hi",
        "hungarian": "hu",
        "indonesian": "id",
        "irish": "ga",
        "italian": "it",
        "lithuanian": "lt",
    },
    **{
        "nepali": "ne",
        "norwegian": "no",
        "portuguese": "pt",
        "romanian": "ro",
        "russian": "ru",
        "serbian": "sr",
    },
    **{"spanish": "es", "swedish": "sv", "tamil": "ta", "turkish": "tr", "yiddish": "yi"},
}

_UP = (
    "SET LOCAL lock_timeout = '5s'",
    "DROP VIEW searchable_chunks, matchable_chunks",
    # The language is detected anew with the terms; null says that this is still to be done.
    "ALTER TABLE chunks DROP COLUMN tsv, DROP COLUMN language",
    """
    ALTER TABLE chunks
      ADD COLUMN language text,
      ADD COLUMN terms integer[],
      ADD COLUMN weights sparsevec,
      ADD CONSTRAINT ck_chunks_terms CHECK (num_nulls(language, terms, weights) IN (0, 3))
    """,
    "ALTER TABLE documents ADD COLUMN languages text[] NOT NULL DEFAULT '{}'",
    "CREATE INDEX ix_chunks_without_terms ON chunks (id) WHERE terms IS NULL",
    # Organization and collection are terms here, so that one index serves scope and words together.
    """
    CREATE INDEX ix_chunks_scoped_terms ON chunks
      USING gin ((terms || hashtext(organization_id) || hashtext(collection_id))) WITH (fastupdate = off)
    """,
    "DROP TABLE lexeme_statistics",
    """
    CREATE TABLE term_statistics (
      organization_id text NOT NULL
        CONSTRAINT fk_term_statistics_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      term integer NOT NULL,
      share real NOT NULL,
      CONSTRAINT pk_term_statistics PRIMARY KEY (organization_id, term)
    )
    """,
    """
    CREATE TABLE term_counts (
      organization_id text CONSTRAINT pk_term_counts PRIMARY KEY
        CONSTRAINT fk_term_counts_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
      chunks bigint NOT NULL,
      counted_at timestamptz NOT NULL
    )
    """,
    *(
        statement
        for table in ("term_statistics", "term_counts")
        for statement in (
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY system ON {table} TO ibid_system USING (true) WITH CHECK (true)",
            f"CREATE POLICY organization ON {table} TO ibid_app"
            " USING (organization_id = current_setting('ibid.organization_id', true))",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO ibid_system",
            f"GRANT SELECT ON {table} TO ibid_app",
        )
    ),
    """
    CREATE VIEW searchable_chunks AS
      SELECT id, organization_id, collection_id, document_id, ordinal, page, char_start, char_end, text, tags, metadata,
             language, terms, weights, embedding, embedding_model
        FROM chunks
       WHERE organization_id = current_setting('ibid.organization_id', true)
    """,
    """
    CREATE VIEW matchable_chunks AS
      SELECT id, collection_id, document_id, char_start, char_end, tags, metadata, weights, embedding, embedding_model,
             terms || hashtext(organization_id) || hashtext(collection_id) AS scoped_terms
        FROM chunks
       WHERE organization_id || '' = current_setting('ibid.organization_id', true)
    """,
)

_DOWN = (
    "SET LOCAL lock_timeout = '5s'",
    "DROP VIEW searchable_chunks, matchable_chunks",
    "DROP TABLE term_counts, term_statistics",
    "DROP INDEX ix_chunks_scoped_terms",
    "DROP INDEX ix_chunks_without_terms",
    "ALTER TABLE documents DROP COLUMN languages",
    "ALTER TABLE chunks DROP CONSTRAINT ck_chunks_terms, DROP COLUMN weights, DROP COLUMN terms",
    "ALTER TABLE chunks ALTER COLUMN language TYPE regconfig USING (CAST(CASE language "
    + " ".join(f"WHEN '{code}' THEN '{name}'" for name, code in _CONFIGURATIONS.items())
    + " ELSE 'simple' END AS regconfig))",
    "ALTER TABLE chunks ALTER COLUMN language SET NOT NULL",
    "ALTER TABLE chunks ADD COLUMN tsv tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector(language, text)) STORED",
    """
    CREATE INDEX ix_chunks_scoped_tsv ON chunks
      USING gin ((array_to_tsvector(ARRAY[organization_id, collection_id]) || tsv)) WITH (fastupdate = off)
    """,
    "CREATE TABLE lexeme_statistics (lexeme text CONSTRAINT pk_lexeme_statistics PRIMARY KEY, share double precision NOT NULL)",
    "GRANT SELECT ON lexeme_statistics TO ibid_app",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON lexeme_statistics TO ibid_system",
    """
    CREATE VIEW searchable_chunks AS
      SELECT id, organization_id, collection_id, document_id, ordinal, page, char_start, char_end, text, tags, metadata,
             language, tsv, embedding, embedding_model
        FROM chunks
       WHERE organization_id = current_setting('ibid.organization_id', true)
    """,
    """
    CREATE VIEW matchable_chunks AS
      SELECT id, collection_id, document_id, char_start, char_end, tags, metadata, tsv, embedding, embedding_model,
             array_to_tsvector(ARRAY[organization_id, collection_id]) || tsv AS scoped_tsv
        FROM chunks
       WHERE organization_id || '' = current_setting('ibid.organization_id', true)
    """,
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)
    _hand_over_views()


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
    _hand_over_views()


def _hand_over_views() -> None:
    """Views run as their owner, for whom the policies are no obstacle to an index; who queries them stays in its wall."""
    op.execute(
        """
        DO $$ BEGIN
          EXECUTE format('GRANT CREATE ON SCHEMA %I TO ibid_system', current_schema());
          ALTER VIEW searchable_chunks OWNER TO ibid_system;
          ALTER VIEW matchable_chunks OWNER TO ibid_system;
          EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM ibid_system', current_schema());
        END $$
        """
    )
    for view in _VIEWS:
        op.execute(f"GRANT SELECT ON {view} TO ibid_app")
