"""Documents that are there."""

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from app.api import quotas
from app.api.attachments import attachment_headers, image_headers
from app.api.deps import (
    IdempotencyKey,
    IngestingPrincipal,
    IngestPrincipal,
    ReadPrincipal,
    RuntimeDep,
    TransactionDep,
)
from app.api.document_events import document_stream
from app.api.paging import Cursor, Limit, Offset, link_next
from app.api.schemas.base import OpaqueId
from app.api.schemas.documents import (
    ChangeDocumentRequest,
    ChunkResponse,
    DocumentEvent,
    DocumentResponse,
    PageResponse,
    UploadResponse,
)
from app.api.uploads import receive_uploads, upload_schema
from app.core.text import clean
from app.services import documents, files, page_images, progress

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


@router.post(
    "",
    status_code=202,
    response_model=list[UploadResponse],
    responses={
        **quotas.RESPONSES,
        200: {"model": list[UploadResponse], "description": "All of them were there already."},
    },
    openapi_extra=upload_schema(),
)
async def upload_documents(
    request: Request,
    runtime: RuntimeDep,
    principal: IngestingPrincipal,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Store files, to be processed in the background: one result each, in their order.

    What can't be taken of several is told in its `error`; where none can be, the answer is the first one's error.
    """
    return await receive_uploads(request, runtime, principal, idempotency_key)


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
async def delete_document(document_id: OpaqueId, runtime: RuntimeDep, principal: IngestPrincipal) -> None:
    """Delete a document and its file, also while it is processed. When this answers, nothing of it can be found."""
    await documents.delete(runtime, principal, document_id)


@router.post("/{document_id}/reprocess", status_code=202)
async def reprocess_document(
    document_id: OpaqueId, session: TransactionDep, principal: IngestPrincipal
) -> DocumentResponse:
    """Read, chunk and embed a document anew. What is served stays until that is done."""
    return DocumentResponse.model_validate(await documents.reprocess(session, principal, document_id))


@router.post("/{document_id}/cancel")
async def cancel_document(
    document_id: OpaqueId, session: TransactionDep, principal: IngestPrincipal
) -> DocumentResponse:
    """Stop processing. A version that was served before stays; a document without one has failed."""
    return DocumentResponse.model_validate(await documents.cancel(session, principal, document_id))


@router.get("/{document_id}/text", response_model=list[PageResponse])
async def get_text(
    document_id: OpaqueId,
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ReadPrincipal,
    limit: Limit = 50,
    offset: Offset = 0,
) -> list[PageResponse]:
    """The text as it was read, page by page: chunks and citations are ranges of it, in code points."""
    page, more = await documents.pages(session, principal, document_id, limit=limit, offset=offset)
    if more:
        link_next(request, response, offset=offset + limit)
    return [PageResponse.model_validate(found) for found in page]


@router.get("/{document_id}/content", response_class=StreamingResponse)
async def get_content(
    document_id: OpaqueId, runtime: RuntimeDep, principal: ReadPrincipal
) -> StreamingResponse:
    """The original file, to be saved. Its checksum is verified: a damaged one breaks off before its end."""
    file = await files.open_file(runtime, principal, document_id)
    return StreamingResponse(
        file.content, headers=attachment_headers(file), media_type="application/octet-stream"
    )


@router.get(
    "/{document_id}/pages/{number}.webp",
    response_class=Response,
    responses={
        200: {"content": {"image/webp": {}}, "description": "The page."},
        304: {"description": "The picture that the caller has is still the right one."},
    },
)
async def get_page_image(
    document_id: OpaqueId,
    number: Annotated[int, Path(ge=1, le=100_000, description="From 1.")],
    runtime: RuntimeDep,
    principal: ReadPrincipal,
    chunk: Annotated[
        OpaqueId | None, Query(description="A passage to mark, such as a source of an answer.")
    ] = None,
    width: Annotated[int, Query(ge=100, le=2400, description="In pixels.")] = 1200,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    """A page of a PDF file as a picture, with a passage marked."""
    image = await page_images.find(
        runtime, principal, document_id, number=number, chunk_id=chunk, width=width
    )
    headers = image_headers(image.etag)
    if if_none_match is not None and image.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(await page_images.draw(runtime, image), media_type="image/webp", headers=headers)


@router.get(
    "/{document_id}/events",
    response_model=DocumentEvent,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Server-sent events of this form."},
        204: {"description": "Nothing has changed, and nothing will."},
    },
)
async def follow_document(
    document_id: OpaqueId,
    runtime: RuntimeDep,
    principal: ReadPrincipal,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> Response:
    """How far a document is, as server-sent events: each state as it comes, until `completed` or `failed`.

    The id of an event goes up with every change; a client that comes back with it gets what it has not seen.
    """
    seen = int(last_event_id) if last_event_id and last_event_id.isdecimal() else None
    return await document_stream(progress.follow(runtime, principal, document_id, seen=seen))
