"""The words of a title belong to the terms of every chunk of its document: what follows when the title changes."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from app.core.principal import ALL_SCOPES, Principal, PrincipalKind, Role
from app.db import upkeep
from app.db.engine import Transaction
from app.db.models import Document
from app.db.repositories.chunk_terms import AnalysedChunk, ChunkTermsRepository
from app.services import indexing
from app.services.runtime import Runtime

_AT_ONCE: Final = 64
"""Chunks analysed in some 25 ms: those of a small document within the request, of a large one between two commits."""
_MOST_DOCUMENTS: Final = 1_000


async def changed(session: Transaction, principal: Principal, document: Document) -> None:
    """Have the chunks found by the new title's words: at once in a small document, soon in a large one."""
    if document.chunk_count > _AT_ONCE:
        await ChunkTermsRepository(session, principal).mark(document.id, 0)
    else:
        await _renew(session, principal, document, first=0)


async def catch_up(runtime: Runtime) -> int:
    """Renew the terms of documents whose title changed, in small transactions; returns how many documents are done."""
    done = 0
    for organization_id, document_id in await upkeep.stale_titles(runtime.database, limit=_MOST_DOCUMENTS):
        principal = Principal(PrincipalKind.OPERATOR, "maintenance", organization_id, Role.ADMIN, ALL_SCOPES)
        while True:
            async with runtime.database.unit_of_work(principal) as session:
                document = await ChunkTermsRepository(session, principal).lock_stale(document_id)
                if document is None:
                    break
                if await _renew(session, principal, document, first=document.terms_stale_from or 0):
                    done += 1
                    break
    return done


async def _renew(session: Transaction, principal: Principal, document: Document, *, first: int) -> bool:
    """The terms of some chunks by the present title; True when there are no more."""
    repository = ChunkTermsRepository(session, principal)
    chunks = await repository.chunks(document.id, first=first, many=_AT_ONCE)
    if chunks:
        terms = await asyncio.to_thread(_terms, chunks, document.title)
        await repository.replace([chunk.id for chunk in chunks], terms)
    is_last = len(chunks) < _AT_ONCE
    await repository.mark(document.id, None if is_last else first + _AT_ONCE)
    return is_last


def _terms(chunks: Sequence[AnalysedChunk], title: str) -> list[Mapping[int, float]]:
    return [
        indexing.terms_of(chunk.text, chunk.language, title=title, heading=chunk.heading) for chunk in chunks
    ]
