"""Reading the audit log: by whom, by which filters, page by page, and as a file."""

import csv
import io
import json
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.core.principal import ALL_SCOPES, SYSTEM, Role
from tests.api.test_auth import bearer, code_of
from tests.fixtures.accounts import Person, log_in, new_person
from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, variant


@pytest.fixture
def visitor(service: Service) -> httpx.AsyncClient:
    return client_of(variant(service))


@pytest.fixture
async def admin(service: Service) -> Person:
    return await new_person(service, Role.ADMIN)


async def told(client: httpx.AsyncClient, by: Person, **query: Any) -> list[dict[str, Any]]:
    response = await client.get("/audit", headers=by.headers, params=query)
    assert response.status_code == 200, response.text
    entries: list[dict[str, Any]] = response.json()
    return entries


async def acts(client: httpx.AsyncClient, by: Person, **query: Any) -> list[str]:
    return [entry["action"] for entry in await told(client, by, **query)]


async def test_an_entry_says_who_did_what_when_from_where_and_what_changed(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    other = await new_person(service, organization_id=admin.organization_id)

    changed = await visitor.patch(f"/users/{other.id}", headers=admin.headers, json={"role": "admin"})
    (entry,) = await told(visitor, admin, object_id=other.id, action="user.role_changed")

    assert entry.pop("id").startswith("aud_")
    assert entry.pop("occurred_at") > changed.json()["created_at"]
    assert entry.pop("address").startswith("10.")
    assert entry == {
        "organization_id": admin.organization_id,
        "actor_kind": "user",
        "actor_id": admin.id,
        "actor_name": admin.email,
        "action": "user.role_changed",
        "object_type": "user",
        "object_id": other.id,
        "object_name": other.email,
        "request_id": changed.headers["x-request-id"],
        "before": {"role": "user"},
        "after": {"role": "admin"},
    }


async def test_what_changed_nothing_is_not_told(visitor: httpx.AsyncClient, admin: Person) -> None:
    await visitor.patch("/auth/me", headers=admin.headers, json={"name": "New Name"})
    await visitor.patch("/auth/me", headers=admin.headers, json={"name": "New Name"})
    refused = await visitor.delete(f"/users/{admin.id}", headers=admin.headers)

    assert code_of(refused) == "last_admin"
    assert (await acts(visitor, admin, actor=admin.id)).count("user.changed") == 1
    assert "user.deleted" not in await acts(visitor, admin)


async def test_logins_that_failed_and_succeeded_are_told_and_the_password_is_not(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    await log_in(visitor, admin.email, "a wrong password")
    tokens = (await log_in(visitor, admin.email)).json()
    await visitor.post("/auth/logout", headers=bearer(tokens))

    entries = await told(visitor, admin, object_id=admin.id, object_type="user")

    assert [entry["action"] for entry in entries[:3]] == ["login.ended", "login.succeeded", "login.failed"]
    failed, succeeded = entries[2], entries[1]
    assert (failed["actor_kind"], failed["actor_id"], failed["after"]) == (
        "anonymous",
        None,
        {"reason": "login_failed"},
    )
    assert (succeeded["actor_kind"], succeeded["actor_name"]) == ("user", admin.email)
    assert "a wrong password" not in json.dumps(entries)


async def test_of_a_login_to_an_unknown_account_nothing_that_was_typed_is_kept(
    service: Service, visitor: httpx.AsyncClient
) -> None:
    superadmin = await new_person(service, Role.SUPERADMIN)

    failed = await log_in(visitor, "hunter2-typed-into-the-wrong-field", "x")
    entries = await told(visitor, superadmin, action="login.failed")
    mine = [entry for entry in entries if entry["request_id"] == failed.headers["x-request-id"]]

    assert [(entry["object_id"], entry["organization_id"], entry["after"]) for entry in mine] == [
        (None, None, {"reason": "login_failed"})
    ]
    assert "hunter2" not in json.dumps(entries)


async def test_a_refresh_token_that_came_twice_is_told(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    body = {"refresh_token": admin.refresh_token}
    assert (await visitor.post("/auth/refresh", json=body)).status_code == 200
    assert (await visitor.post("/auth/refresh", json=body)).status_code == 401
    again = await new_person(service, Role.ADMIN, organization_id=admin.organization_id)

    assert (await acts(visitor, again, object_id=admin.id))[:2] == ["refresh_token.reused", "login.ended"]


async def test_replacing_an_access_list_tells_only_what_changed(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    users = [await new_person(service, organization_id=admin.organization_id) for _ in range(3)]
    made = await visitor.post("/collections", headers=admin.headers, json={"name": "C"})
    path = f"/collections/{made.json()['id']}/users"

    async def replace(**permissions: str) -> None:
        listed = [{"user_id": users[int(n[1:])].id, "permission": p} for n, p in permissions.items()]
        assert (await visitor.put(path, headers=admin.headers, json={"users": listed})).status_code == 204

    await replace(u0="read", u1="read")
    await replace(u0="read", u1="write", u2="read")
    await replace(u2="read")

    entries = await told(visitor, admin, object_id=made.json()["id"])
    assert sorted(entry["action"] for entry in entries) == [
        *["access.changed"],
        *["access.granted"] * 3,
        *["access.revoked"] * 2,
        "collection.created",
    ]
    (change,) = [entry for entry in entries if entry["action"] == "access.changed"]
    assert change["before"] == {"user_id": users[1].id, "permission": "read"}
    assert change["after"] == {"user_id": users[1].id, "permission": "write"}


async def test_an_admin_reads_the_own_organization_and_a_superadmin_any(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    stranger = await new_person(service, Role.ADMIN)
    superadmin = await new_person(service, Role.SUPERADMIN)

    own = {entry["organization_id"] for entry in await told(visitor, admin)}
    foreign = await visitor.get(
        "/audit", headers=admin.headers, params={"organization_id": stranger.organization_id}
    )
    everything = {entry["organization_id"] for entry in await told(visitor, superadmin, limit=200)}
    one = await told(visitor, superadmin, organization_id=stranger.organization_id)
    acting = await visitor.get(
        "/audit", headers={**superadmin.headers, "X-Organization-ID": admin.organization_id}
    )

    assert own == {admin.organization_id}
    assert (foreign.status_code, code_of(foreign)) == (404, "organization_not_found")
    assert {admin.organization_id, stranger.organization_id} <= everything
    assert {entry["organization_id"] for entry in one} == {stranger.organization_id}
    assert {entry["organization_id"] for entry in acting.json()} == {admin.organization_id}


async def test_a_key_that_is_restricted_to_collections_does_not_read_it(
    visitor: httpx.AsyncClient, admin: Person
) -> None:
    collection = await visitor.post("/collections", headers=admin.headers, json={"name": "C"})
    body = {"name": "K", "scopes": sorted(ALL_SCOPES), "collection_ids": [collection.json()["id"]]}
    key = (await visitor.post("/api-keys", headers=admin.headers, json=body)).json()["key"]

    response = await visitor.get("/audit", headers={"X-API-Key": key})

    assert (response.status_code, code_of(response)) == (403, "beyond_own_rights")


async def test_filters_narrow_and_pages_join_without_gap_or_repeat(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    for number in range(7):
        await visitor.post("/collections", headers=admin.headers, json={"name": f"C{number}"})
    everything = await told(visitor, admin, limit=200)

    pages, url = [], "/audit?limit=3"
    while url:
        response = await visitor.get(url, headers=admin.headers)
        pages.append(response.json())
        url = response.links["next"]["url"] if "next" in response.links else ""

    assert [entry["id"] for page in pages for entry in page] == [entry["id"] for entry in everything]
    created = [entry for entry in everything if entry["object_name"] in {f"C{n}" for n in range(7)}]
    assert await told(visitor, admin, action="collection.created", actor=admin.email) == created
    assert await told(visitor, admin, object_id=created[0]["object_id"]) == created[:1]
    moments = {"from": created[5]["occurred_at"], "to": created[2]["occurred_at"]}
    assert await told(visitor, admin, object_type="collection", **moments) == created[3:6]
    assert {*await acts(visitor, admin, action=["collection.created", "login.succeeded"])} == {
        "collection.created",
        "login.succeeded",
    }


@pytest.mark.parametrize(
    "query",
    [
        {"action": "user.befriended"},
        {"from": "yesterday"},
        {"from": "2026-01-01T00:00:00"},
        {"from": "0001-01-01T00:00:00+14:00"},
        {"to": "9999-12-31T23:59:59-14:00"},
        {"limit": "0"},
        {"object_id": "'; DROP TABLE audit_log; --"},
        {"cursor": "nonsense"},
    ],
)
@pytest.mark.parametrize("path", ["/audit", "/audit/export"])
async def test_a_filter_that_can_not_be_is_refused(
    visitor: httpx.AsyncClient, admin: Person, path: str, query: dict[str, str]
) -> None:
    assert (await visitor.get(path, headers=admin.headers, params=query)).status_code == 422


async def test_the_export_has_all_that_the_list_has_in_both_formats(
    visitor: httpx.AsyncClient, admin: Person
) -> None:
    await visitor.post("/collections", headers=admin.headers, json={"name": 'Kölnisch "Wasser", 4711\nzwei'})
    listed = await told(visitor, admin, limit=200)

    as_json = await visitor.get("/audit/export?format=jsonl", headers=admin.headers)
    as_csv = await visitor.get("/audit/export", headers=admin.headers)

    lines = [json.loads(line) for line in as_json.text.splitlines()]
    assert as_json.headers["content-type"] == "application/x-ndjson"
    assert lines[0]["action"] == "audit.exported"
    assert [line["id"] for line in lines[1:]] == [entry["id"] for entry in listed]
    assert lines[1]["after"] == listed[0]["after"]
    assert as_csv.headers["content-disposition"] == 'attachment; filename="audit.csv"'
    rows = list(csv.DictReader(io.StringIO(as_csv.text, newline="")))
    assert [row["action"] for row in rows[:2]] == ["audit.exported", "audit.exported"]
    assert [row["id"] for row in rows[1:]] == [line["id"] for line in lines]
    assert rows[2]["object_name"] == 'Kölnisch "Wasser", 4711\nzwei'
    assert json.loads(rows[0]["after"]) == {
        "format": "csv",
        "limit": 10_000,
        "filters": {"organization_id": admin.organization_id},
    }


async def test_the_export_has_a_limit_and_says_where_it_goes_on(
    visitor: httpx.AsyncClient, admin: Person
) -> None:
    for number in range(4):
        await visitor.post("/collections", headers=admin.headers, json={"name": f"C{number}"})
    query = "action=collection.created&limit=3&format=jsonl"

    first = await visitor.get(f"/audit/export?{query}", headers=admin.headers)
    second = await visitor.get(first.links["next"]["url"], headers=admin.headers)

    names = [json.loads(line)["object_name"] for line in first.text.splitlines() + second.text.splitlines()]
    assert names == ["C3", "C2", "C1", "C0", "General"]
    assert "next" not in second.links


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =cmd|' /C calc'!A0"])
async def test_no_cell_of_the_export_is_a_formula(
    visitor: httpx.AsyncClient, admin: Person, name: str
) -> None:
    await visitor.post("/collections", headers=admin.headers, json={"name": name})

    exported = await visitor.get("/audit/export?limit=1&object_type=collection", headers=admin.headers)

    (row,) = csv.DictReader(io.StringIO(exported.text, newline=""))
    assert row["object_name"] == f"'{name}"


async def test_an_export_of_many_entries_reads_them_page_by_page(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        await session.execute(
            text(
                "SELECT audit_write('document.ingested', :o, 'document', 'doc_' || n, NULL, NULL, NULL)"
                " FROM generate_series(1, 1203) AS n"
            ),
            {"o": admin.organization_id},
        )

    exported = await visitor.get("/audit/export?format=jsonl&action=document.ingested", headers=admin.headers)

    ids = [json.loads(line)["object_id"] for line in exported.text.splitlines()]
    assert len(ids) == len(set(ids)) == 1203
