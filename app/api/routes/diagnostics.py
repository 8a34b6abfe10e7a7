"""What `ibid doctor` looks at, for those who can't log in to the machine."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.deps import ManagePrincipal, RuntimeDep
from app.api.schemas.diagnostics import CheckResponse, DiagnosticsResponse
from app.services import diagnostics
from app.services.checks import Status

router = APIRouter(tags=["operations"])


@router.get("/admin/diagnostics")
async def service_diagnostics(
    runtime: RuntimeDep,
    principal: ManagePrincipal,
    providers: Annotated[
        bool,
        Query(
            description="Whether the embedding model and the chat model are asked too: it takes their time, and a few tokens."
        ),
    ] = False,
) -> DiagnosticsResponse:
    """Whether everything is there that the service needs, and what to do where it is not (superadmin)."""
    found = await diagnostics.of_service(runtime, principal, ask_providers=providers)
    return DiagnosticsResponse(
        ok=all(check.status is not Status.FAIL for check in found),
        checks=[CheckResponse.model_validate(check) for check in found],
    )
