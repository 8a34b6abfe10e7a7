"""Collections, documents, their pages of text, and the chunks that are searched."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pgvector.sqlalchemy import HALFVEC, SPARSEVEC
from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.access import Visibility
from app.core.chunking import ChunkingSettings, Splitter
from app.db.models.base import Base, CreatedAt, Id, UpdatedAt


class DocumentStatus(StrEnum):
    UPLOADED = "uploaded"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Stage(StrEnum):
    """What is being done to a document that is processed."""

    PARSING = "parsing"
    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    INDEXING = "indexing"


class Collection(Base):
    """Documents with one access list. With an owner it is that user's personal one, of which each has one at most.

    With a session it holds that session's files, is its owner's alone, and goes with it.
    """

    __tablename__ = "collections"

    id: Mapped[Id]
    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    visibility: Mapped[str] = mapped_column(server_default=Visibility.ORGANIZATION)
    is_default: Mapped[bool] = mapped_column(server_default=false())
    owner_id: Mapped[str | None]
    session_id: Mapped[str | None]
    created_by: Mapped[str | None]
    chunk_size_tokens: Mapped[int | None]
    chunk_overlap_tokens: Mapped[int | None]
    splitter: Mapped[str] = mapped_column(server_default=Splitter.SENTENCES)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    @property
    def chunking(self) -> ChunkingSettings:
        return ChunkingSettings(self.chunk_size_tokens, self.chunk_overlap_tokens, Splitter(self.splitter))

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "owner_id"],
            ["users.organization_id", "users.id"],
            ondelete="SET NULL (owner_id)",
        ),
        ForeignKeyConstraint(
            ["organization_id", "session_id"], ["sessions.organization_id", "sessions.id"], ondelete="CASCADE"
        ),
        Index("uq_collections_default", "organization_id", unique=True, postgresql_where=sql("is_default")),
        Index(
            "uq_collections_owner",
            "organization_id",
            "owner_id",
            unique=True,
            postgresql_where=sql("owner_id IS NOT NULL"),
        ),
        Index(
            "uq_collections_session",
            "organization_id",
            "session_id",
            unique=True,
            postgresql_where=sql("session_id IS NOT NULL"),
        ),
        Index("ix_collections_newest", "organization_id", sql("created_at DESC"), sql("id DESC")),
        UniqueConstraint("organization_id", "id"),
        CheckConstraint("visibility IN ('organization', 'restricted')", name="visibility"),
        CheckConstraint(
            "owner_id IS NULL OR (visibility = 'restricted' AND NOT is_default)", name="personal"
        ),
        CheckConstraint(
            "(session_id IS NOT NULL) = (id COLLATE \"C\" >= 'sfc_')"
            " AND (session_id IS NULL OR (owner_id IS NULL AND visibility = 'restricted' AND NOT is_default))",
            name="session",
        ),
        CheckConstraint("chunk_size_tokens BETWEEN 16 AND 8000", name="chunk_size"),
        CheckConstraint("chunk_overlap_tokens BETWEEN 0 AND 4000", name="chunk_overlap"),
        CheckConstraint("splitter IN ('sentences', 'headings', 'lines')", name="splitter"),
    )


class CollectionUser(Base):
    """A line of a collection's access list."""

    __tablename__ = "collection_users"

    collection_id: Mapped[Id]
    user_id: Mapped[Id]
    organization_id: Mapped[str]
    permission: Mapped[str]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "collection_id"],
            ["collections.organization_id", "collections.id"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["organization_id", "user_id"], ["users.organization_id", "users.id"], ondelete="CASCADE"
        ),
        Index("ix_collection_users_user", "organization_id", "user_id"),
        CheckConstraint("permission IN ('read', 'write')", name="permission"),
    )


class Document(Base):
    """A source. Its columns tell of the version that is served; `pending` of the file that is to replace it."""

    __tablename__ = "documents"

    id: Mapped[Id]
    organization_id: Mapped[str]
    collection_id: Mapped[str]
    title: Mapped[str]
    source: Mapped[str | None]
    content_type: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    status: Mapped[str]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata_json", server_default=sql("'{}'"))
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=sql("'{}'"))
    generation: Mapped[int] = mapped_column(server_default=sql("1"))
    created_by: Mapped[str | None]
    page_count: Mapped[int] = mapped_column(server_default=sql("0"))
    chunk_count: Mapped[int] = mapped_column(server_default=sql("0"))
    languages: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=sql("'{}'"))
    filename: Mapped[str | None]
    url: Mapped[str | None]
    origin: Mapped[str | None]
    """Where it comes from, for good: the address, or the path on the machine that sent it."""
    other_origins: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=sql("'{}'"))
    """Further ones whose files have become the same: what one of them holds next is a document of its own."""
    stage: Mapped[str | None]
    progress: Mapped[float] = mapped_column(REAL, server_default=sql("0"))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    attempts: Mapped[int] = mapped_column(server_default=sql("0"))
    revision: Mapped[int] = mapped_column(server_default=sql("0"))
    """Goes up with every change of status, stage and progress."""
    storage_key: Mapped[str | None]
    storage_sha256: Mapped[str | None]
    pending: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    extraction: Mapped[dict[str, Any]] = mapped_column(server_default=sql("'{}'"))
    """What its reader said of the file: kind of pages, language, metadata, warnings."""
    built_for: Mapped[int] = mapped_column(BigInteger, server_default=sql("0"))
    """The rebuild of the index that has this version already; negative of the one that is at work on it."""
    terms_stale_from: Mapped[int | None]
    """The first chunk, by its ordinal, whose terms do not know the present title yet; None when all do."""
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "collection_id"],
            ["collections.organization_id", "collections.id"],
            ondelete="CASCADE",
        ),
        UniqueConstraint("collection_id", "sha256"),
        Index("ix_documents_newest", "organization_id", sql("created_at DESC"), sql("id DESC")),
        Index("ix_documents_built_for", "built_for", "id"),
        Index(
            "ix_documents_other_origins",
            "other_origins",
            postgresql_using="gin",
            postgresql_where=sql("other_origins <> '{}'"),
        ),
        Index(
            "uq_documents_origin",
            "collection_id",
            "origin",
            unique=True,
            postgresql_where=sql("origin IS NOT NULL"),
        ),
        Index("ix_documents_stale_terms", "id", postgresql_where=sql("terms_stale_from IS NOT NULL")),
        CheckConstraint("status IN ('uploaded', 'processing', 'completed', 'failed')", name="status"),
        CheckConstraint("stage IN ('parsing', 'chunking', 'embedding', 'indexing')", name="stage"),
    )


class Page(Base):
    __tablename__ = "pages"

    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[str]
    text: Mapped[str]
    label: Mapped[str | None]
    headings: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    boxes: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class Chunk(Base):
    """A passage: `pages.text[char_start:char_end] == text`, in code points.

    `terms` and their `weights` are what `app.rag.terms` makes of it; null until maintenance has done so.
    """

    __tablename__ = "chunks"

    id: Mapped[Id]
    organization_id: Mapped[str]
    collection_id: Mapped[str]
    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    page: Mapped[int]
    char_start: Mapped[int]
    char_end: Mapped[int]
    text: Mapped[str]
    heading: Mapped[str | None]
    """The headings that it stands under, from the highest to the nearest."""
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=sql("'{}'"))
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=sql("'{}'"))
    language: Mapped[str | None]
    terms: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    weights: Mapped[Any | None] = mapped_column(SPARSEVEC)
    embedding: Mapped[Any] = mapped_column(HALFVEC)
    embedding_model: Mapped[str]
    """The build of the index that it belongs to, by name (see `app.core.index_build`)."""

    __table_args__ = (
        Index("ix_chunks_scope", "organization_id", "collection_id"),
        Index("uq_chunks_place", "document_id", "ordinal", sql("hashtext(embedding_model)"), unique=True),
        Index(
            "ix_chunks_scoped_terms",
            sql("((terms || hashtext(organization_id)) || hashtext(collection_id))"),
            postgresql_using="gin",
            postgresql_with={"fastupdate": "on", "gin_pending_list_limit": "4096"},
        ),
        Index("ix_chunks_without_terms", "id", postgresql_where=sql("terms IS NULL")),
        CheckConstraint("num_nulls(language, terms, weights) IN (0, 3)", name="terms"),
    )


class IndexState(Base):
    """One row: the build of the index that is served; `build` is its name where that is not its model's."""

    __tablename__ = "index_state"

    id: Mapped[int] = mapped_column(primary_key=True, server_default=sql("1"))
    embedding_model: Mapped[str]
    dimension: Mapped[int]
    build: Mapped[str | None]
    number: Mapped[int] = mapped_column(BigInteger, server_default=sql("0"))
    """Of the rebuild that made it."""
    requested_dimension: Mapped[int | None]
    chunk_size_tokens: Mapped[int | None]
    chunk_overlap_tokens: Mapped[int | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)


class TermStatistic(Base):
    """The share of an organization's chunks that contain a term; one that few contain is not listed."""

    __tablename__ = "term_statistics"

    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    term: Mapped[int] = mapped_column(primary_key=True)
    share: Mapped[float] = mapped_column(REAL)


class TermCount(Base):
    """Of how many chunks, and when, an organization's terms were last counted."""

    __tablename__ = "term_counts"

    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    chunks: Mapped[int] = mapped_column(BigInteger)
    counted_at: Mapped[datetime]
