"""API keys: shown once, limited to what their maker may do, worthless when revoked or expired."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.core import clock
from app.core.principal import SYSTEM, Role, Scope
from app.db.repositories.places import PlaceRepository
from app.services import auth
from tests.api.test_auth import code_of
from tests.fixtures.accounts import Person, new_person
from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, variant


@pytest.fixture
def visitor(service: Service) -> httpx.AsyncClient:
    return client_of(variant(service))


@pytest.fixture
async def admin(service: Service) -> Person:
    return await new_person(service, Role.ADMIN)


async def make(client: httpx.AsyncClient, by: Person, **body: Any) -> httpx.Response:
    return await client.post("/api-keys", headers=by.headers, json={"name": "K", "scopes": ["read"], **body})


async def test_a_key_is_shown_once_and_works_both_ways(visitor: httpx.AsyncClient, admin: Person) -> None:
    made = (await make(visitor, admin)).json()

    bearer = await visitor.get("/documents", headers={"Authorization": f"Bearer {made['key']}"})
    header = await visitor.get("/documents", headers={"X-API-Key": made["key"]})
    shown = await visitor.get(f"/api-keys/{made['id']}", headers=admin.headers)
    listed = await visitor.get("/api-keys", headers=admin.headers)

    assert (bearer.status_code, header.status_code) == (200, 200)
    assert made["key"].startswith(made["prefix"] + "_")
    assert (made["scopes"], made["created_by"]) == (["read"], admin.id)
    assert shown.json() | {"last_used_at": None} == {k: v for k, v in made.items() if k != "key"}
    assert [key["id"] for key in listed.json()] == [made["id"]]
    for response in (shown, listed):
        assert made["key"].rsplit("_", 1)[1] not in response.text
        assert "hash" not in response.text


async def test_a_revoked_key_is_out_at_once_and_stays_in_the_list(
    visitor: httpx.AsyncClient, admin: Person
) -> None:
    made = (await make(visitor, admin)).json()
    path = f"/api-keys/{made['id']}"

    revoked = await visitor.delete(path, headers=admin.headers)
    first = (await visitor.get(path, headers=admin.headers)).json()["revoked_at"]
    await visitor.delete(path, headers=admin.headers)

    assert revoked.status_code == 204
    assert (await visitor.get("/documents", headers={"X-API-Key": made["key"]})).status_code == 401
    assert (await visitor.get(path, headers=admin.headers)).json()["revoked_at"] == first is not None


async def test_a_key_expires(service: Service, visitor: httpx.AsyncClient, admin: Person) -> None:
    made = (await make(visitor, admin, expires_at=(clock.now() + timedelta(hours=1)).isoformat())).json()
    before = await visitor.get("/documents", headers={"X-API-Key": made["key"]})
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        connection = await session.connection()
        await connection.exec_driver_sql(
            "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = $1", (made["id"],)
        )
    after = await visitor.get("/documents", headers={"X-API-Key": made["key"]})

    assert (before.status_code, after.status_code) == (200, 401)


async def test_last_use_is_noted_once_a_minute(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    made = (await make(visitor, admin)).json()

    async def last_use() -> str | None:
        shown = await visitor.get(f"/api-keys/{made['id']}", headers=admin.headers)
        value: str | None = shown.json()["last_used_at"]
        return value

    noted = [await last_use()]
    for _ in range(2):
        await auth.authenticate_key(service.runtime.database, made["key"])
        noted.append(await last_use())
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        connection = await session.connection()
        await connection.exec_driver_sql(
            "UPDATE api_keys SET last_used_at = now() - interval '61 seconds' WHERE id = $1", (made["id"],)
        )
    await auth.authenticate_key(service.runtime.database, made["key"])
    noted.append(await last_use())

    assert noted[0] is None
    assert noted[1] == noted[2] is not None
    assert noted[3] is not None
    assert noted[3] > str(noted[2])


async def test_a_key_makes_none_that_may_do_more(service: Service) -> None:
    key, _ = await service.new_key(frozenset({Scope.MANAGE, Scope.READ}))

    async with service.client(key) as client:
        more = await client.post("/api-keys", json={"name": "K", "scopes": ["manage", "chat"]})
        less = await client.post("/api-keys", json={"name": "K", "scopes": ["read"]})

    assert (more.status_code, code_of(more)) == (403, "beyond_own_rights")
    assert less.status_code == 201
    assert less.json()["created_by"] is None


async def test_a_key_is_restricted_to_collections_of_the_organization(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    stranger = await new_person(service, Role.ADMIN)
    mine, foreign = [await collection_of(service, person) for person in (admin, stranger)]

    made = await make(visitor, admin, collection_ids=[mine], scopes=["read", "manage"])
    refused = await make(visitor, admin, collection_ids=[mine, foreign])
    unknown = await make(visitor, admin, collection_ids=["col_unknown"])
    headers = {"X-API-Key": made.json()["key"]}
    wider = await visitor.post("/api-keys", headers=headers, json={"name": "K", "scopes": ["read"]})
    people = await visitor.post("/users", headers=headers, json={"email": "r@restricted.example"})

    assert made.json()["collection_ids"] == [mine]
    principal = await auth.authenticate_key(service.runtime.database, made.json()["key"])
    assert principal.collection_ids == frozenset({mine})
    for response in (refused, unknown):
        assert (response.status_code, code_of(response)) == (404, "collection_not_found")
    for response in (wider, people):
        assert (response.status_code, code_of(response)) == (403, "beyond_own_rights")


async def collection_of(service: Service, person: Person) -> str:
    caller = await auth.authenticate(service.runtime, person.access_token)
    async with service.runtime.database.unit_of_work(caller.principal) as session:
        return await PlaceRepository(session, caller.principal).default_id()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"scopes": []}, "validation_error"),
        ({"scopes": ["everything"]}, "validation_error"),
        ({"name": ""}, "validation_error"),
        ({"collection_ids": []}, "validation_error"),
        ({"expires_at": "2030-01-01T00:00:00"}, "validation_error"),
        ({"expires_at": "soon"}, "validation_error"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "validation_error"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expiry_in_the_past"),
        ({"organization_id": "org_1"}, "validation_error"),
    ],
)
async def test_a_key_that_is_not_valid_is_refused(
    visitor: httpx.AsyncClient, admin: Person, body: dict[str, Any], code: str
) -> None:
    response = await make(visitor, admin, **body)

    assert (response.status_code, code_of(response)) == (422, code)
