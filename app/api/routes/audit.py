"""The audit log: who did what, when, from where."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.api.deps import ManagePrincipal, RuntimeDep
from app.api.paging import Cursor, Limit, Offset, link_next
from app.api.schemas.audit import AuditEntryResponse
from app.api.schemas.base import Moment, OpaqueId
from app.core.audit import Action, AuditFilter
from app.core.text import clean
from app.services import audit

router = APIRouter(prefix="/audit", tags=["audit"])

_CONTENT_TYPES: Final = {
    audit.ExportFormat.CSV: "text/csv; charset=utf-8",
    audit.ExportFormat.JSONL: "application/x-ndjson",
}


async def get_filter(
    actor: Annotated[
        str | None, Query(max_length=320, description="Id, e-mail address or name of a key.")
    ] = None,
    action: Annotated[
        list[Action] | None, Query(max_length=50, description="One or more of the acts.")
    ] = None,
    object_type: Annotated[str | None, Query(max_length=64, examples=["document"])] = None,
    object_id: OpaqueId | None = None,
    since: Annotated[Moment | None, Query(alias="from", description="Not before this moment.")] = None,
    to: Annotated[Moment | None, Query(description="Before this moment.")] = None,
    organization_id: Annotated[
        OpaqueId | None, Query(description="For superadmins: of this organization. Without it, of all.")
    ] = None,
    acts_in: Annotated[str | None, Header(alias="X-Organization-ID", include_in_schema=False)] = None,
) -> AuditFilter:
    return AuditFilter(
        organization_id=organization_id or acts_in,
        actor=actor and clean(actor),
        actions=action or (),
        object_type=object_type and clean(object_type),
        object_id=object_id,
        since=since,
        to=to,
    )


FilterDep = Annotated[AuditFilter, Depends(get_filter)]


@router.get("")
async def list_entries(
    request: Request,
    response: Response,
    runtime: RuntimeDep,
    principal: ManagePrincipal,
    where: FilterDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    offset: Offset = 0,
) -> list[AuditEntryResponse]:
    """What was done in the organization, newest first; for a superadmin, in all of them."""
    page, following = await audit.newest(runtime, principal, where, limit=limit, after=cursor, offset=offset)
    if following:
        link_next(request, response, cursor=following, offset=0)
    return [AuditEntryResponse.model_validate(entry) for entry in page]


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}, "application/x-ndjson": {}}}},
)
async def export_entries(
    request: Request,
    runtime: RuntimeDep,
    principal: ManagePrincipal,
    where: FilterDep,
    file_format: Annotated[audit.ExportFormat, Query(alias="format")] = audit.ExportFormat.CSV,
    limit: Annotated[int, Query(ge=1, le=100_000, description="Entries in the file.")] = 10_000,
    cursor: Cursor = None,
) -> StreamingResponse:
    """The same as a file of CSV or JSON lines. `Link` points at the next file, where there is more than the limit."""
    export = await audit.export(runtime, principal, where, file_format=file_format, limit=limit, after=cursor)
    response = StreamingResponse(export.pieces, media_type=_CONTENT_TYPES[file_format])
    response.headers["Content-Disposition"] = f'attachment; filename="audit.{file_format}"'
    response.headers["Cache-Control"] = "no-store"
    if export.following:
        link_next(request, response, cursor=export.following)
    return response
