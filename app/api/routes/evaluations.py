"""Evaluations on an organization's own questions, for admins."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from app.api.deps import ManagePrincipal, RuntimeDep, TransactionDep
from app.api.paging import Cursor, Limit, Offset, link_next
from app.api.schemas.base import OpaqueId
from app.api.schemas.evaluations import (
    EvaluationDetail,
    EvaluationRequest,
    EvaluationResponse,
    EvaluationSetResponse,
)
from app.services import evaluations
from app.services.evaluations import Wish

router = APIRouter(prefix="/admin", tags=["operations"])


@router.post("/evaluations", status_code=202)
async def start_evaluation(
    body: EvaluationRequest, runtime: RuntimeDep, principal: ManagePrincipal
) -> EvaluationResponse:
    """Ask a set of questions of the organization's own documents, in the background, and measure what is found.

    The set is kept under its name, each evaluation is compared with the one before it.
    """
    run = await evaluations.start(
        runtime,
        principal,
        Wish(
            set_id=body.set_id,
            name=body.name,
            questions=[question.stored() for question in body.questions or ()],
            bot_id=body.bot_id,
            with_answers=body.answers,
            baseline_id=body.baseline_id,
        ),
    )
    return EvaluationResponse.model_validate(run)


@router.get("/evaluations")
async def list_evaluations(
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ManagePrincipal,
    set_id: Annotated[OpaqueId | None, Query()] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    offset: Offset = 0,
) -> list[EvaluationResponse]:
    """The evaluations, newest first: the history of each set."""
    page, following = await evaluations.newest(
        session, principal, limit=limit, after=cursor, offset=offset, set_id=set_id
    )
    if following:
        link_next(request, response, cursor=following, offset=0)
    return [EvaluationResponse.model_validate(run) for run in page]


@router.get("/evaluations/{evaluation_id}")
async def get_evaluation(
    evaluation_id: OpaqueId, session: TransactionDep, principal: ManagePrincipal
) -> EvaluationDetail:
    """One evaluation, with what was measured of each question."""
    run = await evaluations.get(session, principal, evaluation_id)
    shown = EvaluationResponse.model_validate(run)
    return EvaluationDetail.model_construct(
        **{name: getattr(shown, name) for name in EvaluationResponse.model_fields},
        per_question=None if run.result is None else run.result["per_question"],
    )


@router.get(
    "/evaluations/{evaluation_id}/report",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def get_evaluation_report(
    evaluation_id: OpaqueId, session: TransactionDep, principal: ManagePrincipal
) -> HTMLResponse:
    """The evaluation as a page with plots, beside the one that it is compared with. It loads nothing."""
    return HTMLResponse(
        await evaluations.report(session, principal, evaluation_id),
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"},
    )


@router.delete("/evaluations/{evaluation_id}", status_code=204)
async def delete_evaluation(
    evaluation_id: OpaqueId, session: TransactionDep, principal: ManagePrincipal
) -> None:
    """Delete an evaluation; one that is under way is ended. Its question set stays."""
    await evaluations.delete(session, principal, evaluation_id)


@router.get("/evaluation-sets")
async def list_evaluation_sets(
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ManagePrincipal,
    limit: Limit = 50,
    offset: Offset = 0,
) -> list[EvaluationSetResponse]:
    """The question sets, newest first."""
    page, more = await evaluations.sets(session, principal, limit=limit, offset=offset)
    if more:
        link_next(request, response, offset=offset + limit)
    return [EvaluationSetResponse.model_validate(found) for found in page]


@router.delete("/evaluation-sets/{set_id}", status_code=204)
async def delete_evaluation_set(
    set_id: OpaqueId, session: TransactionDep, principal: ManagePrincipal
) -> None:
    """Delete a question set with all of its evaluations."""
    await evaluations.delete_set(session, principal, set_id)
