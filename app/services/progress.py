"""How far a document is, as it happens: each state once, as soon as it is there."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from app.core import waiting
from app.core.errors import DocumentNotFound
from app.core.principal import Principal
from app.db import queue
from app.db.models import Document, DocumentStatus
from app.services import documents
from app.services.runtime import Runtime

_LONGEST_WAIT_SECONDS: Final = 5.0
"""Notifications are hints, and may be lost with a connection."""

_ENDS: Final = (DocumentStatus.COMPLETED, DocumentStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Deleted:
    """The document is gone, or out of the caller's sight."""

    document_id: str


async def follow(
    runtime: Runtime, principal: Principal, document_id: str, *, seen: int | None
) -> AsyncGenerator[Document | Deleted, None]:
    """The document now, unless its revision is the one `seen`, and after each change until it is completed or failed.

    Raises DocumentNotFound when it is not there at the beginning.
    """
    found: Document | None = None
    with runtime.listener.watching(queue.DOCUMENTS, document_id) as changed:
        while found is None or found.status not in _ENDS:
            changed.clear()
            try:
                async with runtime.database.unit_of_work(principal) as session:
                    latest = await documents.get(session, principal, document_id)
            except DocumentNotFound:
                if found is None:
                    raise
                yield Deleted(document_id)
                return
            if latest.revision != seen:
                yield latest
            found, seen = latest, latest.revision
            if found.status in _ENDS:
                return
            await waiting.happened(changed, _LONGEST_WAIT_SECONDS)
