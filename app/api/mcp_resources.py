"""Documents as resources at /mcp, within what the caller may see."""

from typing import Final
from urllib.parse import parse_qs, urlsplit

from mcp import types

from app.api.mcp_callers import Context, protocol_error, reader
from app.api.schemas import mcp as schemas
from app.core.errors import AppError, DocumentNotFound
from app.core.principal import Principal
from app.db.models import DocumentStatus
from app.services import documents
from app.services.runtime import Runtime

_RESOURCES_AT_ONCE: Final = 50
_READ_CHARACTERS: Final = 100_000
_PAGES_AT_ONCE: Final = 20


async def list_resources(
    context: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourcesResult:
    runtime, principal, _ = reader(context)
    try:
        async with runtime.database.unit_of_work(principal) as session:
            page, following = await documents.newest(
                session,
                principal,
                limit=_RESOURCES_AT_ONCE,
                after=params.cursor if params else None,
                offset=0,
                conditions={"status": DocumentStatus.COMPLETED},
            )
    except AppError as error:
        raise protocol_error(error) from error
    resources = [
        types.Resource(
            name=document.title,
            title=document.title,
            uri=schemas.uri_of(document.id),
            description=document.source,
            mime_type="text/plain",
        )
        for document in page
    ]
    return types.ListResourcesResult(resources=resources, next_cursor=following, cache_scope="private")


async def list_templates(
    context: Context, _: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    reader(context)
    template = types.ResourceTemplate(
        name="document",
        title="Text of a document",
        uri_template="ibid://documents/{document_id}{?page,start}",
        description=f"From this page and character on, at most {_READ_CHARACTERS} characters of it.",
        mime_type="text/plain",
    )
    return types.ListResourceTemplatesResult(resource_templates=[template], cache_scope="private")


async def read_resource(
    context: Context, params: types.ReadResourceRequestParams
) -> types.ReadResourceResult:
    runtime, principal, _ = reader(context)
    uri = str(params.uri)
    try:
        document_id, page, start = _place(uri)
        text = await _text(runtime, principal, document_id, page=page, start=start)
    except AppError as error:
        raise protocol_error(error, uri) from error
    contents = types.TextResourceContents(uri=uri, mime_type="text/plain", text=text)
    return types.ReadResourceResult(contents=[contents], cache_scope="private")


async def _text(runtime: Runtime, principal: Principal, document_id: str, *, page: int, start: int) -> str:
    """The text of the pages from this place on, and at its end where it goes on. Raises DocumentNotFound."""
    async with runtime.database.unit_of_work(principal) as session:
        pages, more = await documents.pages(
            session, principal, document_id, limit=_PAGES_AT_ONCE, offset=page - 1
        )
    pieces: list[str] = []
    left = _READ_CHARACTERS
    for found in pages:
        piece = found.text[start : start + left]
        pieces.append(piece)
        left -= len(piece)
        if start + len(piece) < len(found.text):
            return _to_be_continued(pieces, document_id, page=found.number, start=start + len(piece))
        start = 0
    if more:
        return _to_be_continued(pieces, document_id, page=page + len(pages), start=0)
    return "\n\n".join(pieces)


def _to_be_continued(pieces: list[str], document_id: str, *, page: int, start: int) -> str:
    return "\n\n".join([*pieces, f"[Goes on at {schemas.uri_of(document_id)}?page={page}&start={start}]"])


def _place(uri: str) -> tuple[str, int, int]:
    """Document, page from 1 and character of it. Raises DocumentNotFound for what is no address of a document."""
    try:
        parts = urlsplit(uri)
        asked = parse_qs(parts.query)
        page, start = int(asked.get("page", ["1"])[0]), int(asked.get("start", ["0"])[0])
    except ValueError as error:
        raise DocumentNotFound from error
    document_id = parts.path.removeprefix("/")
    is_known = (parts.scheme, parts.netloc) == ("ibid", "documents") and schemas.ID.fullmatch(document_id)
    if not is_known or not 1 <= page <= 100_000 or not 0 <= start <= 10**9:
        raise DocumentNotFound
    return document_id, page, start
