"""Collections, documents, their pages of text, and the chunks that are searched."""

from enum import StrEnum
from typing import Any

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REGCONFIG, TSVECTOR
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
    """Documents with one access list. With an owner it is that user's personal one, of which each has one at most."""

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
        Index("uq_collections_default", "organization_id", unique=True, postgresql_where=sql("is_default")),
        Index(
            "uq_collections_owner",
            "organization_id",
            "owner_id",
            unique=True,
            postgresql_where=sql("owner_id IS NOT NULL"),
        ),
        Index("ix_collections_newest", "organization_id", sql("created_at DESC"), sql("id DESC")),
        UniqueConstraint("organization_id", "id"),
        CheckConstraint("visibility IN ('organization', 'restricted')", name="visibility"),
        CheckConstraint(
            "owner_id IS NULL OR (visibility = 'restricted' AND NOT is_default)", name="personal"
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
    filename: Mapped[str | None]
    url: Mapped[str | None]
    origin: Mapped[str | None]
    """Where it comes from, for good: the address, or the path on the machine that sent it."""
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
        Index(
            "uq_documents_origin",
            "collection_id",
            "origin",
            unique=True,
            postgresql_where=sql("origin IS NOT NULL"),
        ),
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
    """A passage: `pages.text[char_start:char_end] == text`, in code points."""

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
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=sql("'{}'"))
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=sql("'{}'"))
    language: Mapped[str] = mapped_column(REGCONFIG)
    tsv: Mapped[str] = mapped_column(TSVECTOR, Computed("to_tsvector(language, text)", persisted=True))
    embedding: Mapped[Any] = mapped_column(HALFVEC)
    embedding_model: Mapped[str]

    __table_args__ = (
        Index("ix_chunks_scope", "organization_id", "collection_id"),
        UniqueConstraint("document_id", "ordinal"),
        Index(
            "ix_chunks_scoped_tsv",
            sql("(array_to_tsvector(ARRAY[organization_id, collection_id]) || tsv)"),
            postgresql_using="gin",
            postgresql_with={"fastupdate": "off"},
        ),
    )


class IndexState(Base):
    """One row: the embedding model whose vectors the index holds."""

    __tablename__ = "index_state"

    id: Mapped[int] = mapped_column(primary_key=True, server_default=sql("1"))
    embedding_model: Mapped[str]
    dimension: Mapped[int]
    created_at: Mapped[CreatedAt]

    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)


class LexemeStatistic(Base):
    """The estimated share of all chunks that contain a lexeme.

    The empty lexeme stands for every one that is not listed; ` english` (a lexeme has no blank) for the share of the
    chunks that are in a language.
    """

    __tablename__ = "lexeme_statistics"

    lexeme: Mapped[Id]
    share: Mapped[float]
