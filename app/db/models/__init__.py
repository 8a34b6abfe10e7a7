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
from app.db.models.bots import Bot, BotCollection, BotUser, BotVersion
from app.db.models.conversations import Message, MessageStatus, Session, SessionShare, TitleSource
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
from app.db.models.evaluations import EvaluationRun, EvaluationSet, RunStatus
from app.db.models.identity import ApiKey, Organization, User
from app.db.models.jobs import FileDeletion, IdempotencyKey, Job, JobTurn, StoredFile, WorkerSign
from app.db.models.rebuilds import IndexRebuild, RebuildClaim, RebuildState
from app.db.models.usage import Budget, BudgetReservation, BudgetSpending, UsageEvent

__all__ = [
    "ApiKey",
    "AuditEntry",
    "Base",
    "Bot",
    "BotCollection",
    "BotUser",
    "BotVersion",
    "Budget",
    "BudgetReservation",
    "BudgetSpending",
    "Chunk",
    "Collection",
    "CollectionUser",
    "Document",
    "DocumentStatus",
    "EvaluationRun",
    "EvaluationSet",
    "FileDeletion",
    "Guesses",
    "IdempotencyKey",
    "IndexRebuild",
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
    "RebuildClaim",
    "RebuildState",
    "RecoveryCode",
    "RefreshToken",
    "RunStatus",
    "Session",
    "SessionShare",
    "SocketTicket",
    "Stage",
    "StoredFile",
    "TermCount",
    "TermStatistic",
    "TitleSource",
    "UsageEvent",
    "User",
    "WorkerSign",
]
