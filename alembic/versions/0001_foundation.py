"""Organizations, users, keys, collections, documents, chunks, conversations, and the wall between organizations.

Revision: 0001, the first

Two roles without login stand behind every query (see `app.db.engine`): `ibid_app` is bound to one organization by
row-level security, `ibid_system` sees all. Roles belong to the whole server, so a downgrade leaves them.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_SCHEMA = """
CREATE EXTENSION IF NOT EXISTS vector;

DO $$
DECLARE wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['ibid_app', 'ibid_system'] LOOP
    BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
      END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of this server was faster
    END;
    BEGIN  -- a superuser may switch to any role, who made the role may not before PostgreSQL is told so
      EXECUTE format('SET LOCAL ROLE %I', wanted);
      RESET ROLE;
    EXCEPTION WHEN insufficient_privilege THEN
      EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
    END;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), wanted);
  END LOOP;
END $$;

CREATE TABLE organizations (
  id text CONSTRAINT pk_organizations PRIMARY KEY,
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
  id text CONSTRAINT pk_users PRIMARY KEY,
  organization_id text NOT NULL
    CONSTRAINT fk_users_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
  email text NOT NULL,
  password_hash text NOT NULL,
  role text NOT NULL CONSTRAINT ck_users_role CHECK (role IN ('superadmin', 'admin', 'user')),
  is_active boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX uq_users_email ON users (lower(email));
CREATE INDEX ix_users_organization_id ON users (organization_id);

CREATE TABLE api_keys (
  id text CONSTRAINT pk_api_keys PRIMARY KEY,
  organization_id text NOT NULL
    CONSTRAINT fk_api_keys_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
  name text NOT NULL,
  public_part text NOT NULL CONSTRAINT uq_api_keys_public_part UNIQUE,
  secret_hash text NOT NULL,
  scopes text[] NOT NULL,
  created_by text CONSTRAINT fk_api_keys_created_by_users REFERENCES users ON DELETE SET NULL,
  expires_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_api_keys_organization_id ON api_keys (organization_id);

CREATE TABLE collections (
  id text CONSTRAINT pk_collections PRIMARY KEY,
  organization_id text NOT NULL
    CONSTRAINT fk_collections_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
  name text NOT NULL,
  is_default boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT uq_collections_organization_id_id UNIQUE (organization_id, id)
);
CREATE INDEX ix_collections_organization_id ON collections (organization_id);
CREATE UNIQUE INDEX uq_collections_default ON collections (organization_id) WHERE is_default;

CREATE TABLE documents (
  id text CONSTRAINT pk_documents PRIMARY KEY,
  organization_id text NOT NULL,
  collection_id text NOT NULL,
  title text NOT NULL,
  source text,
  content_type text NOT NULL,
  size_bytes bigint NOT NULL,
  sha256 text NOT NULL,
  status text NOT NULL CONSTRAINT ck_documents_status CHECK (status IN ('uploaded', 'processing', 'completed', 'failed')),
  metadata_json jsonb NOT NULL DEFAULT '{}',
  tags text[] NOT NULL DEFAULT '{}',
  generation integer NOT NULL DEFAULT 1,
  created_by text,
  page_count integer NOT NULL DEFAULT 0,
  chunk_count integer NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT fk_documents_organization_id_collection_id_collections
    FOREIGN KEY (organization_id, collection_id) REFERENCES collections (organization_id, id) ON DELETE CASCADE,
  CONSTRAINT uq_documents_collection_id_sha256 UNIQUE (collection_id, sha256)
);
CREATE INDEX ix_documents_newest ON documents (organization_id, created_at DESC, id DESC);

CREATE TABLE pages (
  document_id text NOT NULL CONSTRAINT fk_pages_document_id_documents REFERENCES documents ON DELETE CASCADE,
  number integer NOT NULL,
  organization_id text NOT NULL,
  text text NOT NULL,
  CONSTRAINT pk_pages PRIMARY KEY (document_id, number)
);

CREATE TABLE chunks (
  id text CONSTRAINT pk_chunks PRIMARY KEY,
  organization_id text NOT NULL,
  collection_id text NOT NULL,
  document_id text NOT NULL CONSTRAINT fk_chunks_document_id_documents REFERENCES documents ON DELETE CASCADE,
  ordinal integer NOT NULL,
  page integer NOT NULL,
  char_start integer NOT NULL,
  char_end integer NOT NULL,
  text text NOT NULL,
  tags text[] NOT NULL DEFAULT '{}',
  metadata jsonb NOT NULL DEFAULT '{}',
  language regconfig NOT NULL,
  tsv tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector(language, text)) STORED,
  embedding halfvec NOT NULL,
  embedding_model text NOT NULL,
  CONSTRAINT uq_chunks_document_id_ordinal UNIQUE (document_id, ordinal)
);
-- PLAIN: exact search reads the vector where the row is, three to five times faster than out of line.
ALTER TABLE chunks ALTER COLUMN embedding SET STORAGE PLAIN;
CREATE INDEX ix_chunks_scope ON chunks (organization_id, collection_id);
-- Nothing of a chunk is worth keeping out of line: inserts are 1.4 times faster and ranking reads the row at once.
ALTER TABLE chunks SET (toast_tuple_target = 4080);
-- Organization and collection are lexemes here, so that one index serves scope and words together.
CREATE INDEX ix_chunks_scoped_tsv ON chunks
  USING gin ((array_to_tsvector(ARRAY[organization_id, collection_id]) || tsv)) WITH (fastupdate = off);

CREATE TABLE index_state (
  id integer DEFAULT 1 CONSTRAINT pk_index_state PRIMARY KEY CONSTRAINT ck_index_state_one_row CHECK (id = 1),
  embedding_model text NOT NULL,
  dimension integer NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE lexeme_statistics (
  lexeme text CONSTRAINT pk_lexeme_statistics PRIMARY KEY,
  share double precision NOT NULL
);

CREATE TABLE sessions (
  organization_id text NOT NULL
    CONSTRAINT fk_sessions_organization_id_organizations REFERENCES organizations ON DELETE CASCADE,
  id text NOT NULL,
  owner_id text NOT NULL,
  title text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT pk_sessions PRIMARY KEY (organization_id, id)
);
CREATE INDEX ix_sessions_owner ON sessions (organization_id, owner_id, updated_at DESC);

CREATE TABLE messages (
  id text CONSTRAINT pk_messages PRIMARY KEY,
  organization_id text NOT NULL,
  session_id text NOT NULL,
  position bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  role text NOT NULL CONSTRAINT ck_messages_role CHECK (role IN ('user', 'assistant', 'system')),
  content text NOT NULL,
  status text NOT NULL
    CONSTRAINT ck_messages_status CHECK (status IN ('streaming', 'complete', 'interrupted', 'failed')),
  sources jsonb NOT NULL DEFAULT '[]',
  usage jsonb,
  model text,
  refused boolean NOT NULL DEFAULT false,
  finish_reason text,
  latency_ms integer,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT fk_messages_organization_id_session_id_sessions
    FOREIGN KEY (organization_id, session_id) REFERENCES sessions (organization_id, id) ON DELETE CASCADE
);
CREATE INDEX ix_messages_session ON messages (organization_id, session_id, position);
-- One answer at a time: a second turn of a session that is being answered fails on this.
CREATE UNIQUE INDEX uq_messages_streaming ON messages (organization_id, session_id) WHERE status = 'streaming';

DO $$
DECLARE wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['organizations', 'users', 'api_keys', 'collections', 'documents', 'pages', 'chunks',
                                'sessions', 'messages'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', wanted);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', wanted);
    EXECUTE format('CREATE POLICY system ON %I TO ibid_system USING (true) WITH CHECK (true)', wanted);
    EXECUTE format('CREATE POLICY organization ON %I TO ibid_app USING (%I = current_setting(''ibid.organization_id'', true))',
                   wanted, CASE wanted WHEN 'organizations' THEN 'id' ELSE 'organization_id' END);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO ibid_system', wanted);
  END LOOP;
  FOREACH wanted IN ARRAY ARRAY['collections', 'documents', 'pages', 'chunks', 'sessions', 'messages'] LOOP
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO ibid_app', wanted);
  END LOOP;
  EXECUTE 'GRANT SELECT ON organizations, index_state, lexeme_statistics TO ibid_app';
  EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON index_state, lexeme_statistics TO ibid_system';
END $$;

-- The search reads this view, not the table. `@@` is not leakproof, so behind a policy PostgreSQL would check it row by
-- row and never use the full text index; here the organization is part of the view itself, and both indexes are used.
-- The view runs as its owner, ibid_system; who queries it can't leave the condition out.
CREATE VIEW searchable_chunks AS
  SELECT id, organization_id, collection_id, document_id, ordinal, page, char_start, char_end, text, tags, metadata,
         language, tsv, embedding, embedding_model
    FROM chunks
   WHERE organization_id = current_setting('ibid.organization_id', true);
GRANT SELECT ON searchable_chunks TO ibid_app;

-- The same rows for the full text index. The concatenation keeps the planner from reading the B-tree of the
-- organization as well, which can take longer than all the rest; the condition holds as it does above.
CREATE VIEW matchable_chunks AS
  SELECT id, collection_id, document_id, char_start, char_end, tags, metadata, tsv, embedding, embedding_model,
         array_to_tsvector(ARRAY[organization_id, collection_id]) || tsv AS scoped_tsv
    FROM chunks
   WHERE organization_id || '' = current_setting('ibid.organization_id', true);
GRANT SELECT ON matchable_chunks TO ibid_app;
DO $$ BEGIN
  EXECUTE format('GRANT CREATE ON SCHEMA %I TO ibid_system', current_schema());
  ALTER VIEW searchable_chunks OWNER TO ibid_system;
  ALTER VIEW matchable_chunks OWNER TO ibid_system;
  EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM ibid_system', current_schema());
END $$;
"""


def upgrade() -> None:
    for statement in _statements(_SCHEMA):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP VIEW searchable_chunks, matchable_chunks")
    op.execute(
        "DROP TABLE messages, sessions, lexeme_statistics, index_state, chunks, pages, documents, collections, api_keys,"
        " users, organizations"
    )


def _statements(script: str) -> list[str]:
    """Split at the semicolons outside of `$$` bodies: asyncpg prepares one statement at a time."""
    statements, inside = [""], False
    for line in script.splitlines():
        inside ^= line.count("$$") % 2 == 1
        statements[-1] += line + "\n"
        if line.rstrip().endswith(";") and not inside:
            statements.append("")
    return [statement for statement in statements if statement.strip()]
