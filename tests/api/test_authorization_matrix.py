"""Every route by everybody: a route that forgot to ask who is calling, or whose the object is, fails here."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from app.api.connections import server_config
from app.core import clock, ids, security
from app.core.principal import SYSTEM, Role, Scope
from app.db.repositories.api_keys import ApiKeyRepository
from app.db.repositories.users import UserRepository
from app.main import create_app
from tests.api.authorization_rows import (
    KEYS,
    NOBODY,
    PEOPLE,
    ROWS,
    SOCKET_ROWS,
    Cast,
    Persona,
    Row,
    SocketRow,
)
from tests.fixtures.accounts import Person, new_organization, new_person
from tests.fixtures.service import Service, make_settings, serving
from tests.fixtures.sockets import opened
from tests.fixtures.variants import client_of, variant

_RANDOM: dict[str, str] = {
    "document_id": ids.new(ids.Prefix.DOCUMENT),
    "number": "1",
    "session_id": ids.new(ids.Prefix.SESSION),
    "message_id": ids.new(ids.Prefix.MESSAGE),
    "share_id": ids.new(ids.Prefix.SHARE),
    "collection_id": ids.new(ids.Prefix.COLLECTION),
    "user_id": ids.new(ids.Prefix.USER),
    "invitation_id": ids.new(ids.Prefix.INVITATION),
    "budget_id": ids.new(ids.Prefix.BUDGET),
    "key_id": ids.new(ids.Prefix.API_KEY),
    "organization_id": ids.new(ids.Prefix.ORGANIZATION),
    "bot_id": ids.new(ids.Prefix.BOT),
    "evaluation_id": ids.new(ids.Prefix.EVALUATION),
    "set_id": ids.new(ids.Prefix.EVALUATION_SET),
}


@pytest.fixture(scope="session")
def strict_app(service: Service) -> FastAPI:
    """The service where everything is on: open signup, and a second factor for admins."""
    return variant(service, signup="open", admin_totp_required=True)


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    found = set()
    for context in iter_route_contexts(app.routes):
        route: Any = context
        methods = getattr(route, "methods", None) or {"WEBSOCKET"}
        found |= {(method, route.path) for method in methods if method != "HEAD"}
    return found


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    routes = routes_of(create_app(make_settings()))
    shown = set(create_app(make_settings()).openapi()["paths"])
    canonical = {(method, path) for method, path in routes if not path.startswith("/v1/") or path in shown}

    assert canonical == {row.key for row in ROWS} | {("WEBSOCKET", row.path) for row in SOCKET_ROWS}
    assert len(ROWS) == len({row.key for row in ROWS})


def test_the_v1_prefix_has_no_route_of_its_own_but_those_of_another_api() -> None:
    routes = routes_of(create_app(make_settings()))
    shown = set(create_app(make_settings()).openapi()["paths"])
    versioned = {
        (method, path.removeprefix("/v1"))
        for method, path in routes
        if path.startswith("/v1/") and path not in shown
    }

    assert versioned <= {row.key for row in ROWS} | {("WEBSOCKET", row.path) for row in SOCKET_ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
async def test_the_row_holds_for_everybody(service: Service, strict_app: FastAPI, row: Row) -> None:
    cast = await gather(service)
    for persona in Persona:
        response = await call(strict_app, row, cast, persona, await parameters(row, cast))

        assert response.status_code == expected(row, persona), (persona, response.text)
        if response.status_code == 404:
            unknown = await call(strict_app, row, cast, persona, _RANDOM)
            assert (unknown.status_code, body_of(unknown)) == (404, body_of(response)), persona


@pytest.fixture(scope="session")
async def strict_service(service: Service, strict_app: FastAPI) -> AsyncIterator[Service]:
    """The same on a socket, which WebSocket connections need; what is open is the service's, which ends it."""
    settings = strict_app.state.runtime.settings
    config = server_config(strict_app, settings, host="127.0.0.1", port=0, lifespan="off")
    async with serving(strict_app, uvicorn.Server(config)) as url:
        yield Service(url, strict_app)


@pytest.mark.parametrize("row", SOCKET_ROWS, ids=lambda row: row.message({"message_id": "m"}).get("type"))
async def test_the_row_of_the_websocket_holds_for_everybody(
    service: Service, strict_service: Service, row: SocketRow
) -> None:
    cast = await gather(service)
    for persona in Persona:
        made = await row.make(cast) if row.make else {}
        outcome = await say(strict_service, cast.credentials[persona], row.message(made))

        assert outcome == expected_over_websocket(row, persona), persona
        if outcome == row.not_found:
            unknown = {name: _RANDOM[name] for name in made}
            said = await say(strict_service, cast.credentials[persona], row.message(unknown))
            assert said == outcome, persona


async def say(service: Service, credential: str | None, message: dict[str, Any]) -> str:
    """The type of what a message is answered with, or the code of the error."""
    async with opened(service) as socket:
        if credential is not None:
            await socket.send("authenticate", token=credential)
            if (refused := await socket.receive())["type"] == "error":
                return str(refused["error"]["code"])
        await socket.send(**message)
        answer = await socket.receive()
        return str(answer["error"]["code"] if answer["type"] == "error" else answer["type"])


def expected_over_websocket(row: SocketRow, persona: Persona) -> str:
    if persona in NOBODY:
        return "unauthenticated"
    if persona is Persona.BEFORE_TOTP:
        return "totp_enrolment_required"
    if persona in row.allowed:
        return row.answered
    return row.not_found if persona in row.general else "missing_scope"


def expected(row: Row, persona: Persona) -> int:
    """The status that the row says this caller gets."""
    if row.public or persona in row.allowed:
        return row.status
    if persona in NOBODY:
        return 401
    if persona is Persona.BEFORE_TOTP:
        return row.before_totp or 403
    return 404 if persona in row.general else 403


def body_of(response: httpx.Response) -> dict[str, Any]:
    return {**response.json()["error"], "request_id": ""}


async def parameters(row: Row, cast: Cast) -> dict[str, str]:
    return await row.make(cast) if row.make else {}


async def call(
    app: FastAPI, row: Row, cast: Cast, persona: Persona, path_parameters: dict[str, str]
) -> httpx.Response:
    """Each call comes from an address of its own, so that no limit of attempts is in its way."""
    path = row.path.format(**path_parameters)
    async with client_of(app, token=cast.credentials[persona]) as client:
        files = row.files() if row.files else None
        return await client.request(row.method, path, json=row.body(cast, persona), files=files)


async def gather(service: Service) -> Cast:
    """Fresh people and keys: what one route does to them is no other's concern."""
    home = await new_organization(service)
    people = {
        Persona.USER: await new_person(service, Role.USER, organization_id=home, totp=True),
        Persona.ADMIN: await new_person(service, Role.ADMIN, organization_id=home, totp=True),
        Persona.SUPERADMIN: await new_person(service, Role.SUPERADMIN, organization_id=home, totp=True),
        Persona.DEACTIVATED: await new_person(service, Role.ADMIN, organization_id=home, totp=True),
        Persona.REFRESH_TOKEN: await new_person(service, Role.ADMIN, organization_id=home, totp=True),
        Persona.BEFORE_TOTP: await new_person(service, Role.ADMIN, organization_id=home),
        Persona.OTHER_USER: await new_person(service, Role.USER, totp=True),
        Persona.OTHER_ADMIN: await new_person(service, Role.ADMIN, totp=True),
    }
    credentials: dict[Persona, str | None] = {
        persona: person.access_token for persona, person in people.items()
    }
    credentials[Persona.ANONYMOUS] = None
    credentials[Persona.REFRESH_TOKEN] = people[Persona.REFRESH_TOKEN].refresh_token
    cast = Cast(service, home, people, credentials)
    await _deactivate(cast, people[Persona.DEACTIVATED])
    for persona, scope in KEYS.items():
        credentials[persona] = await _key(cast, frozenset({scope}))
    credentials[Persona.REVOKED_KEY] = await _key(cast, frozenset(Scope), revoked=True)
    credentials[Persona.EXPIRED_KEY] = await _key(cast, frozenset(Scope), expired=True)
    assert credentials.keys() == set(Persona)
    assert people.keys() >= PEOPLE
    return cast


async def _deactivate(cast: Cast, person: Person) -> None:
    async with cast.service.runtime.database.unit_of_work(SYSTEM) as session:
        await UserRepository(session, cast.principal).update(person.id, {"is_active": False})


async def _key(cast: Cast, scopes: frozenset[Scope], *, revoked: bool = False, expired: bool = False) -> str:
    key = security.new_api_key()
    async with cast.service.runtime.database.unit_of_work(SYSTEM) as session:
        keys = ApiKeyRepository(session, cast.principal)
        row = await keys.add(
            name="K",
            public_part=key.public,
            secret_hash=key.secret_hash,
            scopes=scopes,
            collection_ids=None,
            expires_at=clock.now() - timedelta(seconds=1) if expired else None,
            created_by=None,
        )
        if revoked:
            await keys.revoke(row.id)
    return str(key)
