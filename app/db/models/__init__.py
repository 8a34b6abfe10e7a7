"""The tables. Alembic owns their creation; a test compares these classes with the migrated database."""

from app.db.models.accounts import (
    Guesses,
    Invitation,
    Login,
    PasswordReset,
    RecoveryCode,
    RefreshToken,
    SocketTicket,
)
from app.db.models.audit import AuditEntry
from app.db.models.base import Base
from app.db.models.conversations import Message, MessageStatus, Session
from app.db.models.documents import (
    Chunk,
    Collection,
    CollectionUser,
    Document,
    DocumentStatus,
    IndexState,
    Page,
    Stage,
    TermCount,
    TermStatistic,
)
from app.db.models.identity import ApiKey, Organization, User
from app.db.models.jobs import FileDeletion, IdempotencyKey, Job, JobTurn
from app.db.models.usage import Budget, BudgetReservation, BudgetSpending, UsageEvent

__all__ = [
    "ApiKey",
    "AuditEntry",
    "Base",
    "Budget",
    "BudgetReservation",
    "BudgetSpending",
    "Chunk",
    "Collection",
    "CollectionUser",
    "Document",
    "DocumentStatus",
    "FileDeletion",
    "Guesses",
    "IdempotencyKey",
    "IndexState",
    "Invitation",
    "Job",
    "JobTurn",
    "Login",
    "Message",
    "MessageStatus",
    "Organization",
    "Page",
    "PasswordReset",
    "RecoveryCode",
    "RefreshToken",
    "Session",
    "SocketTicket",
    "Stage",
    "TermCount",
    "TermStatistic",
    "UsageEvent",
    "User",
]
