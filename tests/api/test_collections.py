"""Collections: making, listing, changing, deleting, and the access list."""

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.core import ids
from app.core.principal import ALL_SCOPES, SYSTEM, Role, Scope
from tests.fixtures.people import Company, People

RANDOM_ID = "col_" + "0" * 26
RANDOM_USER = "user_" + "0" * 26


def error_of(response: httpx.Response) -> dict[str, Any]:
    return {**response.json()["error"], "request_id": ""}


async def names(client: httpx.AsyncClient, query: str = "") -> list[str]:
    response = await client.get(f"/collections{query}")
    assert response.status_code == 200, response.text
    return [collection["name"] for collection in response.json()]


async def test_a_collection_shows_what_was_said_of_it_and_what_is_in_it(company: Company) -> None:
    made = await company.admin.http.post(
        "/collections", json={"name": "Handbooks", "description": "For all", "visibility": "restricted"}
    )
    assert made.status_code == 201
    collection_id = made.json()["id"]
    await company.admin.ingest("One fact.", collection_id=collection_id)
    await company.admin.ingest("Two facts.", collection_id=collection_id)

    seen = (await company.admin.http.get(f"/collections/{collection_id}")).json()

    assert {**made.json(), "documents": 2, "chunks": 2} == seen
    assert (seen["name"], seen["description"], seen["visibility"]) == ("Handbooks", "For all", "restricted")
    assert (seen["is_default"], seen["owner_id"], seen["created_by"]) == (False, None, company.admin.id)
    listed = (await company.admin.http.get("/collections")).json()
    assert [(c["name"], c["documents"]) for c in listed] == [("Handbooks", 2), ("General", 0)]


async def test_the_list_is_paged_newest_first(company: Company) -> None:
    for number in range(5):
        await company.admin.collection(f"C{number}")

    seen: list[str] = []
    url: str | None = "/collections?limit=2"
    while url:
        response = await company.admin.http.get(url)
        seen += [collection["name"] for collection in response.json()]
        link = response.headers.get("link")
        url = link[1 : link.index(">")] if link else None

    assert seen == ["C4", "C3", "C2", "C1", "C0", "General"]
    assert await names(company.admin.http, "?limit=2&offset=1") == ["C3", "C2"]


async def test_what_is_left_out_of_a_change_stays(company: Company) -> None:
    collection_id = await company.admin.collection("Before")

    changed = await company.admin.http.patch(f"/collections/{collection_id}", json={"name": "After"})

    assert (changed.json()["name"], changed.json()["visibility"]) == ("After", "organization")
    assert changed.json()["updated_at"] > changed.json()["created_at"]
    for body in (
        {},
        {"name": None},
        {"name": " \n"},
        {"visibility": "secret"},
        {"owner_id": "x"},
        {"name": "\0"},
    ):
        response = await company.admin.http.patch(f"/collections/{collection_id}", json=body)
        assert response.status_code == 422, body


async def test_a_collection_with_documents_is_deleted_only_by_force(company: Company) -> None:
    collection_id = await company.admin.collection("Full")
    document_id = await company.admin.ingest("The walrus sings.", collection_id=collection_id)

    refused = await company.admin.http.delete(f"/collections/{collection_id}")
    assert (refused.status_code, error_of(refused)["code"]) == (409, "collection_not_empty")
    assert error_of(refused)["details"] == {"documents": 1}
    assert await company.admin.found("walrus") == {"The walrus sings."}

    deleted = await company.admin.http.delete(f"/collections/{collection_id}?force=true")
    assert deleted.status_code == 204
    assert await company.admin.found("walrus") == set()
    assert (await company.admin.http.get(f"/documents/{document_id}")).status_code == 404
    assert (await company.admin.http.get(f"/collections/{collection_id}")).status_code == 404


async def test_an_empty_collection_is_deleted_and_the_default_one_never(company: Company) -> None:
    collection_id = await company.admin.collection("Empty")
    assert (await company.admin.http.delete(f"/collections/{collection_id}")).status_code == 204

    default = (await company.admin.http.get("/collections")).json()[0]
    for query in ("", "?force=true"):
        response = await company.admin.http.delete(f"/collections/{default['id']}{query}")
        assert (response.status_code, error_of(response)["code"]) == (409, "default_collection")


async def test_documents_that_arrive_while_a_collection_is_deleted_are_refused_or_deleted(
    company: Company,
) -> None:
    for _ in range(5):
        collection_id = await company.admin.collection("Contested")

        deleted, *added = await asyncio.gather(
            company.admin.http.delete(f"/collections/{collection_id}"),
            *(
                company.admin.http.post("/ingest", json={"text": f"{n}", "collection_id": collection_id})
                for n in range(6)
            ),
        )

        kept = [response for response in added if response.status_code == 200]
        assert {response.status_code for response in added} <= {200, 404}
        assert (deleted.status_code == 409) == bool(kept)
    assert len((await company.admin.http.get("/documents?limit=200")).json()) < 30


MANAGEMENT: list[tuple[str, str, Any]] = [
    ("POST", "/collections", {"name": "X"}),
    ("PATCH", "/collections/{id}", {"name": "X"}),
    ("DELETE", "/collections/{id}", None),
    ("GET", "/collections/{id}/users", None),
    ("PUT", "/collections/{id}/users", {"users": []}),
    ("PUT", "/collections/{id}/users/{user}", {"permission": "write"}),
    ("DELETE", "/collections/{id}/users/{user}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), MANAGEMENT)
async def test_a_user_manages_nothing_whatever_scopes_the_credential_has(
    company: Company, people: People, method: str, path: str, body: Any
) -> None:
    collection_id = await company.admin.collection("Open")
    too_much = await people.caller(replace(company.other_user.principal, scopes=ALL_SCOPES))
    url = path.format(id=collection_id, user=company.user.id)

    refused = await too_much.http.request(method, url, json=body)
    assert (refused.status_code, error_of(refused)["code"]) == (403, "admins_only")
    without = await company.user.http.request(method, url, json=body)
    assert (without.status_code, error_of(without)["code"]) == (403, "missing_scope")
    assert await names(company.admin.http) == ["Open", "General"]


@pytest.mark.parametrize(("method", "path", "body"), [("GET", "/collections/{id}", None), *MANAGEMENT[1:]])
async def test_a_collection_of_another_organization_does_not_exist(
    company: Company, people: People, method: str, path: str, body: Any
) -> None:
    stranger = await people.person(await people.organization(), Role.ADMIN)
    collection_id = await company.admin.collection("Ours")
    await company.admin.grant(collection_id, company.user)

    foreign = await stranger.http.request(
        method, path.format(id=collection_id, user=company.user.id), json=body
    )
    unknown = await stranger.http.request(method, path.format(id=RANDOM_ID, user=company.user.id), json=body)

    assert foreign.status_code == unknown.status_code == 404
    assert error_of(foreign) == error_of(unknown)
    assert await names(stranger.http) == ["General"]
    assert (await company.admin.http.get(f"/collections/{collection_id}/users")).json()[0][
        "permission"
    ] == "read"


async def test_the_access_list_is_read_changed_and_replaced(company: Company) -> None:
    collection_id = await company.admin.collection("Listed", "restricted")
    url = f"/collections/{collection_id}/users"

    async def listed() -> dict[str, str]:
        return {u["user_id"]: u["permission"] for u in (await company.admin.http.get(url)).json()}

    assert await listed() == {}
    await company.admin.grant(collection_id, company.user)
    await company.admin.grant(collection_id, company.user, "write")
    assert await listed() == {company.user.id: "write"}

    body = {"users": [{"user_id": company.other_user.id, "permission": "read"}]}
    assert (await company.admin.http.put(url, json=body)).status_code == 204
    assert await listed() == {company.other_user.id: "read"}

    assert (await company.admin.http.delete(f"{url}/{company.other_user.id}")).status_code == 204
    again = await company.admin.http.delete(f"{url}/{company.other_user.id}")
    assert (again.status_code, error_of(again)["code"]) == (404, "user_not_found")
    twice = {"users": [body["users"][0], body["users"][0]]}
    assert (await company.admin.http.put(url, json=twice)).status_code == 422


async def test_a_user_of_another_organization_can_not_be_told_from_one_that_is_not(
    company: Company, people: People
) -> None:
    stranger = await people.person(await people.organization())
    collection_id = await company.admin.collection("Ours", "restricted")
    await company.admin.grant(collection_id, company.user)
    url = f"/collections/{collection_id}/users"

    for method, path, body in (
        ("PUT", f"{url}/%s", {"permission": "read"}),
        ("DELETE", f"{url}/%s", None),
    ):
        foreign = await company.admin.http.request(method, path % stranger.id, json=body)
        unknown = await company.admin.http.request(method, path % RANDOM_USER, json=body)
        assert (foreign.status_code, error_of(foreign)["code"]) == (404, "user_not_found")
        assert error_of(foreign) == error_of(unknown)
    for user_id in (stranger.id, RANDOM_USER):
        replaced = await company.admin.http.put(url, json={"users": [{"user_id": user_id}]})
        assert (replaced.status_code, error_of(replaced)["code"]) == (404, "user_not_found")
    assert [u["user_id"] for u in (await company.admin.http.get(url)).json()] == [company.user.id]


async def test_a_user_who_is_deleted_leaves_the_lists_and_the_documents(
    company: Company, people: People
) -> None:
    collection_id = await company.admin.collection("Ours", "restricted")
    await company.admin.grant(collection_id, company.user)
    document_id = await company.user.ingest("Kept for the admin.")

    async with people.service.runtime.database.unit_of_work(SYSTEM) as session:
        await session.execute(text("DELETE FROM users WHERE id = :id"), {"id": company.user.id})

    assert (await company.admin.http.get(f"/collections/{collection_id}/users")).json() == []
    kept = (await company.admin.http.get(f"/documents/{document_id}")).json()
    left = (await company.admin.http.get(f"/collections/{kept['collection_id']}")).json()
    assert (left["owner_id"], left["visibility"], left["created_by"]) == (None, "restricted", company.user.id)
    assert await company.other_user.found("Kept for the admin") == set()


async def test_a_personal_collection_is_not_opened_and_not_shared(company: Company) -> None:
    document_id = await company.user.ingest("Mine alone.")
    collection_id = (await company.admin.http.get(f"/documents/{document_id}")).json()["collection_id"]

    for method, path, body in (
        ("PATCH", "", {"visibility": "organization"}),
        ("PUT", f"/users/{company.other_user.id}", {"permission": "read"}),
        ("PUT", "/users", {"users": [{"user_id": company.other_user.id}]}),
    ):
        response = await company.admin.http.request(method, f"/collections/{collection_id}{path}", json=body)
        assert (response.status_code, error_of(response)["code"]) == (409, "personal_collection")
    renamed = await company.admin.http.patch(f"/collections/{collection_id}", json={"name": "Desk"})
    assert (renamed.json()["name"], renamed.json()["owner_id"]) == ("Desk", company.user.id)


async def test_forty_first_texts_at_once_make_one_personal_collection(company: Company) -> None:
    responses = await asyncio.gather(
        *(company.user.http.post("/ingest", json={"text": f"Note {number}"}) for number in range(40))
    )

    assert {response.status_code for response in responses} == {200}
    mine = [c for c in (await company.user.http.get("/collections")).json() if c["owner_id"]]
    assert [(c["owner_id"], c["documents"]) for c in mine] == [(company.user.id, 40)]


async def test_keys_need_the_scope_manage_and_may_be_held_to_collections(
    company: Company, people: People
) -> None:
    ours = await company.admin.collection("Ours")
    theirs = await company.admin.collection("Theirs")
    document_id = await company.admin.ingest("The otter swims.", collection_id=theirs)
    whole = await people.key(company.id, Scope.MANAGE, Scope.READ)
    held = await people.key(company.id, collection_ids=frozenset({ours, RANDOM_ID}))

    assert (await whole.http.post("/collections", json={"name": "By key"})).status_code == 201
    assert await names(held.http) == ["Ours"]
    assert (await held.http.patch(f"/collections/{theirs}", json={"name": "X"})).status_code == 404
    assert (await held.http.patch(f"/collections/{ours}", json={"name": "Renamed"})).status_code == 200
    made = await held.http.post("/collections", json={"name": "X"})
    assert (made.status_code, error_of(made)["code"]) == (403, "key_is_restricted")
    for path in ("", "/chunks"):
        assert (await held.http.get(f"/documents/{document_id}{path}")).status_code == 404
    assert await held.found("otter") == set()
    assert await whole.http.get(f"/documents/{document_id}")
    placed = await held.ingest("The heron waits.")
    assert (await held.http.get(f"/documents/{placed}")).json()["collection_id"] == ours
    refused = await held.http.post("/ingest", json={"text": "x", "collection_id": theirs})
    assert (refused.status_code, error_of(refused)["code"]) == (404, "collection_not_found")
    assert await held.found("heron otter") == {"The heron waits."}

    wider = await people.key(company.id, collection_ids=frozenset({ours, theirs}))
    unnamed = await wider.http.post("/ingest", json={"text": "Where to?"})
    assert (unnamed.status_code, error_of(unnamed)["code"]) == (422, "collection_required")
    none = await people.key(company.id, collection_ids=frozenset())
    assert (await none.found("heron"), await names(none.http)) == (set(), [])


async def test_a_users_row_that_is_gone_is_no_server_error(company: Company, people: People) -> None:
    ghost = await people.caller(replace(company.user.principal, id=ids.new(ids.Prefix.USER)))

    response = await ghost.http.post("/ingest", json={"text": "Boo"})

    assert (response.status_code, error_of(response)["code"]) == (404, "user_not_found")
