"""The second factor of one's own account."""

from fastapi import APIRouter, Response

from app.api.deps import AddressDep, EnrollingUserDep, RuntimeDep, UserDep
from app.api.schemas.auth import CodeRequest, EnrolmentResponse, RecoveryCodesResponse, TotpDisableRequest
from app.services import second_factor

router = APIRouter(prefix="/auth/totp", tags=["auth"])


@router.post("/enrol")
async def enrol(response: Response, runtime: RuntimeDep, caller: EnrollingUserDep) -> EnrolmentResponse:
    """A secret for an authenticator app. It counts once /auth/totp/verify has seen a code of it."""
    enrolment = await second_factor.enrol(runtime, caller)
    response.headers["Cache-Control"] = "no-store"
    return EnrolmentResponse.model_validate(enrolment)


@router.post("/verify")
async def verify(
    body: CodeRequest,
    response: Response,
    runtime: RuntimeDep,
    caller: EnrollingUserDep,
    address: AddressDep,
) -> RecoveryCodesResponse:
    """Switch the second factor on. All other logins end; the recovery codes are shown now and never again."""
    codes = await second_factor.confirm(runtime, caller, body.code, address=address)
    response.headers["Cache-Control"] = "no-store"
    return RecoveryCodesResponse(recovery_codes=codes)


@router.post("/recovery-codes")
async def renew_recovery_codes(
    body: CodeRequest, response: Response, runtime: RuntimeDep, caller: UserDep, address: AddressDep
) -> RecoveryCodesResponse:
    """New recovery codes; the old ones no longer work."""
    codes = await second_factor.renew_recovery_codes(runtime, caller, body.code, address=address)
    response.headers["Cache-Control"] = "no-store"
    return RecoveryCodesResponse(recovery_codes=codes)


@router.post("/disable", status_code=204)
async def disable(
    body: TotpDisableRequest, runtime: RuntimeDep, caller: UserDep, address: AddressDep
) -> None:
    """Switch the second factor off."""
    await second_factor.disable(
        runtime, caller, password=body.password.get_secret_value(), code=body.code, address=address
    )
