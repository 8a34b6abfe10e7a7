"""Every route that changes something leaves an entry in the audit log, or stands in a list with the reason why not."""

from collections.abc import Awaitable, Callable

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.core.principal import SYSTEM
from app.db.models import AuditEntry
from app.main import create_app
from tests.api.authorization_rows import ROWS, Cast, Persona, Row
from tests.api.test_authorization_matrix import call, gather, parameters, routes_of
from tests.api.test_totp import Phone, enrol
from tests.fixtures.accounts import PASSWORD, new_person
from tests.fixtures.service import Service, make_settings
from tests.fixtures.variants import client_of, variant

MUTATING = {"POST", "PUT", "PATCH", "DELETE"}
EXCEPTIONS = {
    ("POST", "/search"): "reads",
    ("POST", "/mcp"): "reads; what it cost is in the ledger",
    ("POST", "/v1/vector_stores/{collection_id}/search"): "reads",
    ("POST", "/v1/chat/completions"): "reads; what it cost is in the ledger",
    ("POST", "/chat"): "a turn of one's own conversation, which is itself the record of it",
    ("POST", "/bots/try"): "asks a model whether it answers; nothing is changed",
    ("POST", "/bots/{bot_id}/try"): "asks a model whether it answers; nothing is changed",
    ("PATCH", "/chat/sessions/{session_id}"): "a conversation is its owner's own",
    (
        "DELETE",
        "/chat/sessions/{session_id}",
    ): "a conversation is its owner's own; its links and files are told of",
    ("PUT", "/chat/messages/{message_id}/feedback"): "stands with the message that it is about",
    ("DELETE", "/chat/messages/{message_id}/feedback"): "stands with the message that it was about",
    ("POST", "/chat/messages/{message_id}/regenerate"): "a turn of one's own conversation",
    ("POST", "/chat/messages/{message_id}/edit"): "a turn of one's own conversation",
    ("POST", "/chat/messages/{message_id}/stop"): "a turn of one's own conversation",
    ("POST", "/chat/messages/{message_id}/select"): "how one's own conversation is shown",
    ("POST", "/chat/ws/ticket"): "stands for a credential that is there already, for half a minute",
    ("POST", "/auth/refresh"): "goes on with a login that was told; the reuse of a token is told",
}
NEW_PASSWORD = {"new_password": "another password 1"}

Scenario = Callable[[httpx.AsyncClient, Cast], Awaitable[httpx.Response]]


async def reset_password(client: httpx.AsyncClient, cast: Cast) -> httpx.Response:
    admin, user = cast.people[Persona.ADMIN], cast.people[Persona.USER]
    link = await client.post(f"/users/{user.id}/password-reset", headers=admin.headers)
    return await client.post("/auth/password-reset", json={"token": link.json()["token"], **NEW_PASSWORD})


async def start_enrolment(client: httpx.AsyncClient, cast: Cast) -> httpx.Response:
    person = await new_person(cast.service)
    return await client.post("/auth/totp/enrol", headers=person.headers)


async def verify(client: httpx.AsyncClient, cast: Cast) -> httpx.Response:
    person = await new_person(cast.service)
    secret = (await client.post("/auth/totp/enrol", headers=person.headers)).json()["secret"]
    code = {"code": Phone(secret).code(steps=0)}
    return await client.post("/auth/totp/verify", headers=person.headers, json=code)


async def renew_recovery_codes(client: httpx.AsyncClient, cast: Cast) -> httpx.Response:
    person = await new_person(cast.service)
    phone, _ = await enrol(client, person)
    code = {"code": phone.code()}
    return await client.post("/auth/totp/recovery-codes", headers=person.headers, json=code)


async def disable_totp(client: httpx.AsyncClient, cast: Cast) -> httpx.Response:
    person = await new_person(cast.service)
    phone, _ = await enrol(client, person)
    proof = {"password": PASSWORD, "code": phone.code()}
    return await client.post("/auth/totp/disable", headers=person.headers, json=proof)


# Where the row of the authorization matrix does not come to success.
SCENARIOS: dict[tuple[str, str], Scenario] = {
    ("POST", "/auth/password-reset"): reset_password,
    ("POST", "/auth/totp/enrol"): start_enrolment,
    ("POST", "/auth/totp/verify"): verify,
    ("POST", "/auth/totp/recovery-codes"): renew_recovery_codes,
    ("POST", "/auth/totp/disable"): disable_totp,
}
CHANGING = [row for row in ROWS if row.method in MUTATING and row.key not in EXCEPTIONS]


@pytest.fixture(scope="session")
def strict_app(service: Service) -> FastAPI:
    return variant(service, signup="open", admin_totp_required=True)


def test_every_changing_route_is_tried_here_or_has_a_reason() -> None:
    app = create_app(make_settings())
    shown = set(app.openapi()["paths"])
    routes = {route for route in routes_of(app) if route[0] in MUTATING}
    canonical = {(method, path) for method, path in routes if not path.startswith("/v1/") or path in shown}

    assert canonical == {row.key for row in CHANGING} | EXCEPTIONS.keys()


@pytest.mark.parametrize("row", CHANGING, ids=lambda row: f"{row.method} {row.path}")
async def test_a_change_is_told_with_who_where_and_which_request(
    service: Service, strict_app: FastAPI, row: Row
) -> None:
    cast = await gather(service)
    if row.key in SCENARIOS:
        async with client_of(strict_app) as client:
            response = await SCENARIOS[row.key](client, cast)
    else:
        persona = next(p for p in (Persona.ADMIN, Persona.SUPERADMIN, Persona.USER) if p in row.allowed)
        response = await call(strict_app, row, cast, persona, await parameters(row, cast))

    assert response.is_success, response.text
    told = await entries_of(service, response)
    assert told, "no entry tells of this: see migration 0004_audit"
    assert all(entry.address and entry.address.startswith("10.") for entry in told)
    assert {entry.actor_kind for entry in told} <= {"user"} or row.public, [e.action for e in told]


@pytest.mark.parametrize("persona", [Persona.MANAGE_KEY, Persona.INGEST_KEY])
async def test_a_key_is_told_by_its_name(service: Service, strict_app: FastAPI, persona: Persona) -> None:
    cast = await gather(service)
    path = "/ingest" if persona is Persona.INGEST_KEY else "/collections"
    row = next(row for row in ROWS if row.key == ("POST", path))

    response = await call(strict_app, row, cast, persona, {})

    (entry,) = await entries_of(service, response)
    assert (entry.actor_kind, entry.actor_name, entry.organization_id) == (
        "api_key",
        "K",
        cast.organization_id,
    )


async def entries_of(service: Service, response: httpx.Response) -> list[AuditEntry]:
    """The entries of the request that was answered so."""
    request_id = response.headers["x-request-id"]
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        return list(await session.scalars(select(AuditEntry).where(AuditEntry.request_id == request_id)))
