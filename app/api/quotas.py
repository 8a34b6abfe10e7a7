"""Limits of bursts at the door: who is counted for what, and the header fields that say what is left.

The fields are those of the IETF's draft "RateLimit header fields for HTTP" (version 11).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from starlette.requests import HTTPConnection

from app.api.schemas.base import ErrorResponse
from app.core import rates
from app.core.errors import RateLimited
from app.core.principal import Principal, PrincipalKind
from app.core.rates import Activity, Rate, Subject
from app.services.bursts import Quota
from app.services.runtime import Runtime

NOTED: Final = "ibid.quotas"
"""Where in a request's scope the quotas are noted that its answer tells of."""

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    429: {
        "model": ErrorResponse,
        "description": "Too many requests; come back after that many seconds.",
        "headers": {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}},
    }
}
"""How a route that is limited says so in the OpenAPI description."""


async def count_address(request: HTTPConnection, runtime: Runtime, activity: Activity, address: str) -> None:
    """Count a request of whoever comes from an address. Raises RateLimited."""
    await _count(request, runtime, runtime.settings.rates[activity], {Subject.ADDRESS: address})


async def count_caller(
    request: HTTPConnection, runtime: Runtime, activity: Activity, principal: Principal
) -> None:
    """Count a request of an API key or a user. Raises RateLimited."""
    limits = runtime.settings.rates[activity]
    if principal.kind is PrincipalKind.API_KEY:
        if principal.rate_limit:
            limits = (*rates.own_rates(principal.rate_limit), *limits)
        await _count(request, runtime, limits, {Subject.KEY: principal.id})
    else:
        await _count(request, runtime, limits, {Subject.USER: principal.id})


async def _count(
    request: HTTPConnection, runtime: Runtime, limits: Sequence[Rate], who: Mapping[Subject, str]
) -> None:
    if not limits:
        return
    noted: list[Quota] = request.scope.get(NOTED, [])
    try:
        noted += await runtime.counters.take(limits, who)
    except RateLimited as error:
        noted += error.quotas
        raise


def header_fields(quotas: Iterable[Quota]) -> list[tuple[bytes, bytes]]:
    """RateLimit-Policy and RateLimit, or nothing where nothing was counted."""
    noted = list(quotas)
    if not noted:
        return []
    policies = ", ".join(_policy(quota.rate) for quota in noted)
    left = ", ".join(f'"{quota.rate.name}";r={quota.remaining};t={_whole_seconds(quota)}' for quota in noted)
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", left.encode())]


def _policy(rate: Rate) -> str:
    return f'"{rate.name}";q={rate.amount};w={rate.seconds}'


def _whole_seconds(quota: Quota) -> int:
    return -int(-quota.reset_seconds // 1)
