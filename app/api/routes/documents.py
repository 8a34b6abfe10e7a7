"""Documents that are there."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from app.api.deps import IngestPrincipal, ReadPrincipal, TransactionDep
from app.api.paging import Cursor, Limit, Offset, link_next
from app.api.schemas.base import OpaqueId
from app.api.schemas.documents import ChangeDocumentRequest, ChunkResponse, DocumentResponse
from app.core.text import clean
from app.services import documents

router = APIRouter(prefix="/documents", tags=["documents"])

Text = Annotated[str | None, Query(max_length=500)]


@router.get("")
async def list_documents(
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ReadPrincipal,
    limit: Limit = 50,
    cursor: Cursor = None,
    offset: Offset = 0,
    collection_id: OpaqueId | None = None,
    status: Literal["uploaded", "processing", "completed", "failed"] | None = None,
    tag: Text = None,
    title: Annotated[str | None, Query(max_length=500, description="Part of the title, in any case.")] = None,
) -> list[DocumentResponse]:
    """The documents that the caller sees, newest first."""
    page, following = await documents.newest(
        session,
        principal,
        limit=limit,
        after=cursor,
        offset=offset,
        conditions={
            "collection_id": collection_id,
            "status": status,
            "tag": tag and clean(tag),
            "title": title and clean(title),
        },
    )
    if following:
        link_next(request, response, cursor=following, offset=0)
    return [DocumentResponse.model_validate(document) for document in page]


@router.get("/{document_id}")
async def get_document(
    document_id: OpaqueId, session: TransactionDep, principal: ReadPrincipal
) -> DocumentResponse:
    """One document."""
    return DocumentResponse.model_validate(await documents.get(session, principal, document_id))


@router.get("/{document_id}/chunks")
async def list_chunks(
    document_id: OpaqueId,
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ReadPrincipal,
    limit: Limit = 50,
    offset: Offset = 0,
) -> list[ChunkResponse]:
    """The passages of a document, in the order of its text."""
    page, more = await documents.chunks(session, principal, document_id, limit=limit, offset=offset)
    if more:
        link_next(request, response, offset=offset + limit)
    return [ChunkResponse.model_validate(chunk) for chunk in page]


@router.patch("/{document_id}")
async def change_document(
    document_id: OpaqueId, body: ChangeDocumentRequest, session: TransactionDep, principal: IngestPrincipal
) -> DocumentResponse:
    """Rename, retag or move a document; what is left out stays. Search follows at once."""
    return DocumentResponse.model_validate(
        await documents.change(session, principal, document_id, body.values)
    )


@router.delete("/{document_id}", status_code=204)
async def delete_document(document_id: OpaqueId, session: TransactionDep, principal: IngestPrincipal) -> None:
    """Delete a document. When this answers, nothing of it can be found."""
    await documents.delete(session, principal, document_id)
