"""Organizations: a superadmin's to make and delete, an admin's to rename."""

import httpx
import pytest

from app.core.principal import Role
from tests.api.test_auth import code_of
from tests.fixtures.accounts import PASSWORD, log_in, new_person
from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, variant


@pytest.fixture
def visitor(service: Service) -> httpx.AsyncClient:
    return client_of(variant(service))


async def test_a_superadmin_makes_an_organization_its_admin_and_deletes_both(
    service: Service, visitor: httpx.AsyncClient
) -> None:
    superadmin = await new_person(service, Role.SUPERADMIN)
    made = (await visitor.post("/organizations", headers=superadmin.headers, json={"name": "Acme"})).json()
    there = superadmin.headers | {"X-Organization-ID": made["id"]}
    body = {"email": "boss@acme.example", "role": "admin", "password": PASSWORD}
    await visitor.post("/users", headers=there, json=body)
    boss = {"Authorization": f"Bearer {(await log_in(visitor, 'boss@acme.example')).json()['access_token']}"}
    ingested = await visitor.post("/ingest", headers=boss, json={"text": "Acme makes anvils."})

    deleted = await visitor.delete(f"/organizations/{made['id']}", headers=superadmin.headers)

    assert (ingested.status_code, deleted.status_code) == (200, 204)
    assert (await visitor.get("/documents", headers=boss)).status_code == 401
    assert (await log_in(visitor, "boss@acme.example")).status_code == 401
    gone = await visitor.get(f"/organizations/{made['id']}", headers=superadmin.headers)
    assert (gone.status_code, code_of(gone)) == (404, "organization_not_found")


async def test_an_organization_with_a_superadmin_is_not_deleted(
    service: Service, visitor: httpx.AsyncClient
) -> None:
    superadmin = await new_person(service, Role.SUPERADMIN)

    response = await visitor.delete(
        f"/organizations/{superadmin.organization_id}", headers=superadmin.headers
    )

    assert (response.status_code, code_of(response)) == (409, "organization_has_superadmins")


async def test_an_admin_sees_and_renames_their_own_and_no_other(
    service: Service, visitor: httpx.AsyncClient
) -> None:
    admin, other = await new_person(service, Role.ADMIN), await new_person(service, Role.ADMIN)

    listed = (await visitor.get("/organizations", headers=admin.headers)).json()
    renamed = await visitor.patch(
        f"/organizations/{admin.organization_id}", headers=admin.headers, json={"name": "Mine"}
    )
    foreign = await visitor.patch(
        f"/organizations/{other.organization_id}", headers=admin.headers, json={"name": "Mine"}
    )

    assert [organization["id"] for organization in listed] == [admin.organization_id]
    assert renamed.json()["name"] == "Mine"
    assert foreign.status_code == 404


async def test_a_superadmin_pages_through_all(service: Service, visitor: httpx.AsyncClient) -> None:
    people = [await new_person(service) for _ in range(3)]
    superadmin = await new_person(service, Role.SUPERADMIN)

    seen: list[str] = []
    url: str | None = "/organizations?limit=2"
    while url:
        response = await visitor.get(url, headers=superadmin.headers)
        seen += [organization["id"] for organization in response.json()]
        link = response.headers.get("link")
        url = link[1 : link.index(">")] if link else None

    assert len(seen) == len(set(seen))
    assert {person.organization_id for person in people} <= set(seen)


@pytest.mark.parametrize("name", ["", "x" * 201, None, 5])
async def test_a_name_that_is_none_is_refused(
    service: Service, visitor: httpx.AsyncClient, name: object
) -> None:
    superadmin = await new_person(service, Role.SUPERADMIN)

    response = await visitor.post("/organizations", headers=superadmin.headers, json={"name": name})

    assert (response.status_code, code_of(response)) == (422, "validation_error")
