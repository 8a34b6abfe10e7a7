"""The tables. Alembic owns their creation; a test compares these classes with the migrated database."""

from app.db.models.base import Base
from app.db.models.conversations import Message, MessageStatus, Session
from app.db.models.documents import (
    Chunk,
    Collection,
    CollectionUser,
    Document,
    DocumentStatus,
    IndexState,
    LexemeStatistic,
    Page,
)
from app.db.models.identity import ApiKey, Organization, User

__all__ = [
    "ApiKey",
    "Base",
    "Chunk",
    "Collection",
    "CollectionUser",
    "Document",
    "DocumentStatus",
    "IndexState",
    "LexemeStatistic",
    "Message",
    "MessageStatus",
    "Organization",
    "Page",
    "Session",
    "User",
]
