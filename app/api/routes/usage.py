"""What model calls took and cost."""

import csv
import io
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.deps import RuntimeDep, get_principal
from app.api.paging import Offset, link_next
from app.api.schemas.base import Moment, OpaqueId
from app.api.schemas.usage import BudgetWarning, UsageResponse, UsageSumResponse
from app.core.principal import Principal
from app.core.text import clean
from app.core.usage import UsageFilter, UsageGroup, UsageSum, in_dollars
from app.services import usage

router = APIRouter(prefix="/usage", tags=["usage"])

_MOST_ROWS: Final = 1_000
_FIGURES: Final = (
    "calls",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "estimated_calls",
    "unpriced_calls",
)


class UsageFormat(StrEnum):
    JSON = "json"
    CSV = "csv"


@router.get(
    "",
    response_model=UsageResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def get_usage(
    request: Request,
    response: Response,
    runtime: RuntimeDep,
    principal: Annotated[Principal, Depends(get_principal)],
    group_by: Annotated[
        list[UsageGroup] | None, Query(max_length=6, description="Any of these together. Default: day.")
    ] = None,
    since: Annotated[
        Moment | None, Query(alias="from", description="Default: thirty days before the end.")
    ] = None,
    to: Annotated[
        Moment | None, Query(description="Before this moment; at most 366 days. Default: now.")
    ] = None,
    bot: OpaqueId | None = None,
    caller: Annotated[OpaqueId | None, Query(description="A user's or a key's id.")] = None,
    model: Annotated[str | None, Query(max_length=200)] = None,
    organization_id: Annotated[
        OpaqueId | None, Query(description="For superadmins: of this organization.")
    ] = None,
    shown_as: Annotated[UsageFormat, Query(alias="format")] = UsageFormat.JSON,
    limit: Annotated[int, Query(ge=1, le=_MOST_ROWS, description="Rows.")] = 100,
    offset: Offset = 0,
) -> UsageResponse | Response:
    """Tokens and money: the organization's for who manages it, one's own for everybody else."""
    groups = list(dict.fromkeys(group_by or [UsageGroup.DAY]))
    begin, end = usage.period(since, to)
    report = await usage.report(
        runtime,
        principal,
        UsageFilter(begin, end, caller_id=caller, bot_id=bot, model=model and clean(model)),
        groups,
        limit=limit,
        offset=offset,
        organization_id=organization_id,
    )
    if report.has_more:
        link_next(request, response, offset=offset + limit)
    if shown_as is UsageFormat.CSV:
        headers = {**response.headers, "Content-Disposition": 'attachment; filename="usage.csv"'}
        return Response(_csv(report.rows, groups), media_type="text/csv; charset=utf-8", headers=headers)
    return UsageResponse(
        since=report.since,
        to=report.to,
        total=_sum(report.total),
        rows=[_sum(row) for row in report.rows],
        warnings=[BudgetWarning(**_warning(standing)) for standing in report.warnings],
        kept_since=report.kept_since,
    )


def _sum(row: UsageSum) -> UsageSumResponse:
    values = {name: getattr(row, name) for name in UsageSum.__slots__}
    return UsageSumResponse(**{**values, "cost_usd": in_dollars(row.cost_usd)})


def _warning(standing: Any) -> dict[str, Any]:
    return {**usage.described(standing), "state": standing.state}


def _csv(rows: Sequence[UsageSum], groups: Sequence[UsageGroup]) -> str:
    """No spreadsheet takes a cell for a formula: ids, dates and numbers begin with none of its signs, but a model's name
    is free text."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    names = [*groups, *_FIGURES]
    writer.writerow(names)
    for row in rows:
        values = {name: getattr(row, name) for name in names}
        writer.writerow(
            [_cell(in_dollars(value) if name == "cost_usd" else value) for name, value in values.items()]
        )
    return file.getvalue()


def _cell(value: object) -> str:
    shown = "" if value is None else str(value)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else shown
