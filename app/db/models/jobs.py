"""The queue of documents to process, the files to remove, and the requests that may come twice."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, func
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, CreatedAt, Id


class Job(Base):
    """The newest generation of a document, to be processed. Claimed until `available_at`, which a heartbeat moves on."""

    __tablename__ = "jobs"

    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True)
    organization_id: Mapped[str]
    generation: Mapped[int]
    rank: Mapped[datetime] = mapped_column(server_default=func.now())
    """When it would be its turn: small files come before large ones and single ones before many."""
    available_at: Mapped[datetime] = mapped_column(server_default=func.now())
    claimed_by: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default=sql("0"))
    """Starts, counted as the job is claimed: what kills its worker is counted too."""
    postponed: Mapped[int] = mapped_column(server_default=sql("0"))
    """Those of the starts that ended in order, to be tried again."""
    from_pages: Mapped[bool] = mapped_column(server_default=sql("false"))
    """Whether the text that was read before is chunked anew, and its file left alone."""
    created_at: Mapped[CreatedAt]

    __table_args__ = (Index("ix_jobs_turn", "organization_id", "rank"),)


class JobTurn(Base):
    """When an organization's last job was claimed: who has waited longest is next."""

    __tablename__ = "job_turns"

    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    served_at: Mapped[datetime]


class WorkerSign(Base):
    """A process that processes documents, and its last sign of life."""

    __tablename__ = "workers"

    name: Mapped[Id]
    concurrency: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class FileDeletion(Base):
    """A stored file that is to go: one that no document has any more, or one whose document was never written."""

    __tablename__ = "file_deletions"

    storage_key: Mapped[Id]
    organization_id: Mapped[str]
    due_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class StoredFile(Base):
    """A megabyte of an original file, where those are kept in the database."""

    __tablename__ = "stored_files"

    storage_key: Mapped[Id]
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[bytes]


class IdempotencyKey(Base):
    """A request that its client may repeat, and what was answered; without a status it is under way."""

    __tablename__ = "idempotency_keys"

    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    owner_id: Mapped[Id]
    key: Mapped[Id]
    route: Mapped[str]
    fingerprint: Mapped[str | None]
    status: Mapped[int | None]
    body: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    locked_until: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
