"""Who sees and changes which documents, on every route that shows or touches them."""

import asyncio
from dataclasses import dataclass

import httpx
import pytest
from sqlalchemy import text

from app.core.principal import Role
from tests.api.test_collections import error_of
from tests.fixtures.people import Caller, Company, People

RANDOM_DOCUMENT = "doc_" + "0" * 26
QUESTION = "Where does the ibex sleep at night?"


@dataclass(frozen=True)
class Place:
    """A collection with one document of its own."""

    collection_id: str
    document_id: str
    text: str


@dataclass(frozen=True)
class Landscape:
    """What a company has: a place of each kind, all of the admin's making but the personal ones."""

    company: Company
    places: dict[str, Place]

    @property
    def callers(self) -> dict[str, Caller]:
        return {"admin": self.company.admin, "user": self.company.user, "other": self.company.other_user}


SEEN = {
    "admin": {"open", "closed", "to read", "to write", "mine", "theirs"},
    "user": {"open", "to read", "to write", "mine"},
    "other": {"open", "theirs"},
}


@pytest.fixture
async def land(company: Company) -> Landscape:
    admin, user, other = company.admin, company.user, company.other_user
    places: dict[str, Place] = {}

    async def add(name: str, by: Caller, collection_id: str | None) -> None:
        text = f"The ibex of the place {name} sleeps at night on the {name} rock."
        fields = {"collection_id": collection_id} if collection_id else {}
        document_id = await by.ingest(text, title=name, tags=[name], **fields)
        document = (await by.http.get(f"/documents/{document_id}")).json()
        places[name] = Place(document["collection_id"], document_id, text)

    await add("open", admin, await admin.collection("open"))
    await add("closed", admin, await admin.collection("closed", "restricted"))
    await add("to read", admin, await admin.collection("to read", "restricted"))
    await add("to write", admin, await admin.collection("to write", "restricted"))
    await admin.grant(places["to read"].collection_id, user, "read")
    await admin.grant(places["to write"].collection_id, user, "write")
    await add("mine", user, None)
    await add("theirs", other, None)
    return Landscape(company, places)


async def test_search_lists_chat_and_counts_show_what_the_caller_may_see(land: Landscape) -> None:
    for role, caller in land.callers.items():
        seen = SEEN[role]
        texts = {land.places[name].text for name in seen}

        assert await caller.found(QUESTION) == texts, role
        listed = (await caller.http.get("/documents")).json()
        assert {document["title"] for document in listed} == seen, role
        collections = (await caller.http.get("/collections?limit=200")).json()
        assert {c["id"] for c in collections if c["documents"]} == {
            land.places[name].collection_id for name in seen
        }
        assert sum(c["documents"] for c in collections) == sum(c["chunks"] for c in collections) == len(seen)
        answer = (await caller.http.post("/chat", json={"message": QUESTION, "config": {"top_k": 20}})).json()
        assert {source["snippet"] for source in answer["sources"]} == texts, role


async def test_documents_outside_of_it_are_answered_as_unknown_ones(land: Landscape) -> None:
    for role, caller in land.callers.items():
        for name, place in land.places.items():
            for path in ("", "/chunks"):
                response = await caller.http.get(f"/documents/{place.document_id}{path}")
                if name in SEEN[role]:
                    assert response.status_code == 200, (role, name)
                else:
                    unknown = await caller.http.get(f"/documents/{RANDOM_DOCUMENT}{path}")
                    assert (response.status_code, error_of(response)) == (404, error_of(unknown)), (
                        role,
                        name,
                    )


async def test_filters_do_not_reach_further(land: Landscape) -> None:
    for role, caller in land.callers.items():
        for name, place in land.places.items():
            visible = name in SEEN[role]
            expected = {place.text} if visible else set()
            assert await caller.found(QUESTION, filters={"document_ids": [place.document_id]}) == expected
            assert await caller.found(QUESTION, filters={"tags": [name]}) == expected
            listed = (await caller.http.get(f"/documents?collection_id={place.collection_id}")).json()
            assert len(listed) == len(expected)
            for route, body in (("/search", {"query": QUESTION}), ("/chat", {"message": QUESTION})):
                response = await caller.http.post(
                    route, json={**body, "collection_ids": [place.collection_id]}
                )
                assert response.status_code == (200 if visible else 404), (role, name, route)
                if visible:
                    shown = response.json()["results" if route == "/search" else "sources"]
                    assert {hit["document_id"] for hit in shown} == {place.document_id}
            collection = await caller.http.get(f"/collections/{place.collection_id}")
            assert collection.status_code == (200 if visible else 404)


CHANGES = {"admin": set(SEEN["admin"]), "user": {"to write", "mine"}, "other": {"theirs"}}
ADDS = {"admin": set(SEEN["admin"]), "user": {"open", "to write", "mine"}, "other": {"open", "theirs"}}


async def test_documents_are_added_where_the_caller_may_write(land: Landscape) -> None:
    for role, caller in land.callers.items():
        for name, place in land.places.items():
            response = await caller.http.post(
                "/ingest", json={"text": f"By {role}", "collection_id": place.collection_id}
            )
            expected = 200 if name in ADDS[role] else 403 if name in SEEN[role] else 404
            assert response.status_code == expected, (role, name, response.text)


async def test_documents_are_changed_replaced_and_deleted_where_the_caller_may_write(land: Landscape) -> None:
    for role in ("user", "other", "admin"):
        caller = land.callers[role]
        for name, place in land.places.items():
            expected = 200 if name in CHANGES[role] else 403 if name in SEEN[role] else 404
            url = f"/documents/{place.document_id}"
            renamed = await caller.http.patch(url, json={"title": role})
            replaced = await caller.http.post(
                "/ingest", json={"text": f"{role} {name}", "document_id": place.document_id}
            )
            assert (renamed.status_code, replaced.status_code) == (expected, expected), (role, name)
            if expected != 200:
                assert (await caller.http.delete(url)).status_code == expected, (role, name)
            if expected == 403:
                assert error_of(renamed)["code"] == "document_read_only"
    for role, name in (("user", "mine"), ("user", "to write"), ("admin", "theirs"), ("admin", "open")):
        url = f"/documents/{land.places[name].document_id}"
        assert (await land.callers[role].http.delete(url)).status_code == 204


async def test_in_an_open_collection_a_user_changes_only_what_they_added(land: Landscape) -> None:
    collection_id = land.places["open"].collection_id
    user, other = land.company.user, land.company.other_user
    document_id = await user.ingest("Added by the user.", collection_id=collection_id)

    refused = await other.http.delete(f"/documents/{document_id}")
    assert (refused.status_code, error_of(refused)["code"]) == (403, "document_read_only")
    assert (await user.http.patch(f"/documents/{document_id}", json={"title": "T"})).status_code == 200
    await land.company.admin.grant(collection_id, other, "write")
    assert (await other.http.delete(f"/documents/{document_id}")).status_code == 204


async def test_a_users_text_goes_to_the_personal_collection_and_an_admins_to_the_default_one(
    company: Company,
) -> None:
    await company.admin.ingest("By the admin.")
    await company.user.ingest("By the user.")
    await company.user.ingest("By the user again.")

    collections = (await company.admin.http.get("/collections")).json()
    by_kind = {(c["is_default"], c["owner_id"]): c["documents"] for c in collections}

    assert by_kind == {(True, None): 1, (False, company.user.id): 2}


async def test_a_change_of_the_access_list_holds_from_the_next_request(company: Company) -> None:
    collection_id = await company.admin.collection("Changing", "restricted")
    document_id = await company.admin.ingest("The lynx hides in the fog.", collection_id=collection_id)
    user = company.user

    async def state() -> tuple[bool, int, int]:
        found = bool(await user.found("lynx fog"))
        read = (await user.http.get(f"/documents/{document_id}")).status_code
        written = (await user.http.patch(f"/documents/{document_id}", json={"title": "T"})).status_code
        return found, read, written

    assert await state() == (False, 404, 404)
    await company.admin.grant(collection_id, user, "read")
    assert await state() == (True, 200, 403)
    await company.admin.grant(collection_id, user, "write")
    assert await state() == (True, 200, 200)
    await company.admin.http.delete(f"/collections/{collection_id}/users/{user.id}")
    assert await state() == (False, 404, 404)
    await company.admin.http.patch(f"/collections/{collection_id}", json={"visibility": "organization"})
    assert await state() == (True, 200, 403)
    await company.admin.http.patch(f"/collections/{collection_id}", json={"visibility": "restricted"})
    assert await state() == (False, 404, 404)


async def test_moving_a_document_moves_who_finds_it(land: Landscape) -> None:
    user, other = land.company.user, land.company.other_user
    mine, opened = land.places["mine"], land.places["open"]
    url = f"/documents/{mine.document_id}"

    moved = await user.http.patch(url, json={"collection_id": opened.collection_id})
    assert (moved.status_code, moved.json()["collection_id"]) == (200, opened.collection_id)
    assert mine.text in await other.found(QUESTION)
    assert mine.text in await other.found(QUESTION, collection_ids=[opened.collection_id])
    assert await user.found(QUESTION, collection_ids=[mine.collection_id]) == set()

    back = await user.http.patch(url, json={"collection_id": mine.collection_id})
    assert back.status_code == 200
    assert mine.text not in await other.found(QUESTION)
    assert (await other.http.get(url)).status_code == 404


async def test_a_document_moves_only_to_where_its_mover_may_write(land: Landscape) -> None:
    user = land.company.user
    url = f"/documents/{land.places['mine'].document_id}"

    for name, status in (("to read", 403), ("closed", 404), ("theirs", 404)):
        response = await user.http.patch(url, json={"collection_id": land.places[name].collection_id})
        assert response.status_code == status, name
    taken = await user.http.patch(
        f"/documents/{land.places['open'].document_id}",
        json={"collection_id": land.places["mine"].collection_id},
    )
    assert taken.status_code == 403
    assert (await user.http.get(url)).json()["collection_id"] == land.places["mine"].collection_id


async def test_a_document_does_not_move_to_where_its_text_is_already(company: Company) -> None:
    first, second = await company.admin.collection("1"), await company.admin.collection("2")
    one = await company.admin.ingest("The same text.", collection_id=first)
    await company.admin.ingest("The same text.", collection_id=second)

    response = await company.admin.http.patch(f"/documents/{one}", json={"collection_id": second})

    assert (response.status_code, error_of(response)["code"]) == (409, "conflict")
    assert (await company.admin.http.get(f"/documents/{one}")).json()["collection_id"] == first


async def test_title_tags_and_metadata_follow_into_search(client: httpx.AsyncClient) -> None:
    document_id = (
        await client.post("/ingest", json={"text": "The stork returns.", "tags": ["a"], "source": "s.txt"})
    ).json()["document_id"]

    changed = await client.patch(
        f"/documents/{document_id}",
        json={"title": "Birds", "tags": ["b"], "metadata": {"year": 2024}, "source": None},
    )

    assert changed.status_code == 200
    document = (await client.get(f"/documents/{document_id}")).json()
    assert document == changed.json()
    assert (document["title"], document["tags"], document["source"]) == ("Birds", ["b"], None)
    assert document["metadata"] == {"year": 2024}
    assert document["updated_at"] > document["created_at"]

    async def hits(**filters: object) -> list[str]:
        found = await client.post("/search", json={"query": "stork", "filters": filters})
        return [hit["title"] for hit in found.json()["results"]]

    assert await hits(tags=["a"]) == []
    assert await hits(tags=["b"]) == ["Birds"]
    assert await hits(metadata={"year": {"gte": 2024}}) == ["Birds"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"title": None},
        {"title": "  "},
        {"title": "\0"},
        {"title": "x" * 501},
        {"tags": None},
        {"tags": [""]},
        {"metadata": None},
        {"metadata": {"k": "x" * 100_001}},
        {"collection_id": None},
        {"collection_id": "' OR 1=1 --"},
        {"text": "no"},
        {"id": "doc_1"},
        {"organization_id": "org_1"},
    ],
)
async def test_a_change_that_is_not_valid_changes_nothing(
    client: httpx.AsyncClient, body: dict[str, object]
) -> None:
    document_id = (await client.post("/ingest", json={"text": "Stays."})).json()["document_id"]
    before = (await client.get(f"/documents/{document_id}")).json()

    response = await client.patch(f"/documents/{document_id}", json=body)

    assert (response.status_code, error_of(response)["code"]) == (422, "validation_error")
    assert (await client.get(f"/documents/{document_id}")).json() == before


async def test_moves_replacements_and_deletions_at_once_leave_chunks_where_their_document_is(
    company: Company, people: People
) -> None:
    admin = company.admin
    places = [await admin.collection("1"), await admin.collection("2")]
    document_id = await admin.ingest("Version 0 of the gannet.", collection_id=places[0])
    url = f"/documents/{document_id}"

    responses = await asyncio.gather(
        *(admin.http.patch(url, json={"collection_id": places[n % 2], "tags": [str(n)]}) for n in range(10)),
        *(
            admin.http.post(
                "/ingest", json={"text": f"Version {n} of the gannet.", "document_id": document_id}
            )
            for n in range(1, 6)
        ),
    )

    assert {response.status_code for response in responses} <= {200}
    document = (await admin.http.get(url)).json()
    elsewhere = next(place for place in places if place != document["collection_id"])
    assert len(await admin.found("gannet", collection_ids=[document["collection_id"]])) == 1
    assert await admin.found("gannet", collection_ids=[elsewhere]) == set()
    assert (
        len(await admin.found("gannet", filters={"tags": document["tags"]} if document["tags"] else {})) == 1
    )


async def test_a_user_with_five_hundred_collections_searches_all_and_only_them(
    company: Company, people: People
) -> None:
    """The collections are made in the database: through the API the test would take a minute."""
    database = people.service.runtime.database
    async with database.unit_of_work(company.admin.principal) as session:
        await session.execute(
            text(
                "INSERT INTO collections (id, organization_id, name, visibility) SELECT 'col_many_' || :o || n, :o,"
                " 'Many', 'restricted' FROM generate_series(1, 1000) n"
            ),
            {"o": company.id},
        )
        await session.execute(
            text(
                "INSERT INTO collection_users SELECT 'col_many_' || :o || n, :u, :o, 'read'"
                " FROM generate_series(1, 500) n"
            ),
            {"o": company.id, "u": company.user.id},
        )
    for number in (1, 500, 501, 1000):
        await company.admin.ingest(
            f"The ibex number {number} sleeps at night.", collection_id=f"col_many_{company.id}{number}"
        )

    assert await company.user.found(QUESTION) == {f"The ibex number {n} sleeps at night." for n in (1, 500)}
    assert len((await company.user.http.get("/documents")).json()) == 2
    assert await company.other_user.found(QUESTION) == set()


async def test_sessions_are_their_owners_alone(land: Landscape) -> None:
    user, other, admin = land.company.user, land.company.other_user, land.company.admin
    await user.http.post("/chat", json={"message": QUESTION, "session_id": "sess_of_user"})

    for stranger in (other, admin):
        assert (await stranger.http.get("/chat/sessions/sess_of_user/messages")).status_code == 404
        taken = await stranger.http.post("/chat", json={"message": "And then?", "session_id": "sess_of_user"})
        assert (taken.status_code, error_of(taken)["code"]) == (404, "session_not_found")
    assert len((await user.http.get("/chat/sessions/sess_of_user/messages")).json()) == 2


async def test_an_admin_of_another_organization_sees_nothing_of_it(land: Landscape, people: People) -> None:
    stranger = await people.person(await people.organization(), Role.ADMIN)

    assert await stranger.found(QUESTION) == set()
    assert (await stranger.http.get("/documents")).json() == []
    for place in land.places.values():
        for method, path, body in (
            ("GET", f"/documents/{place.document_id}", None),
            ("PATCH", f"/documents/{place.document_id}", {"title": "X"}),
            ("DELETE", f"/documents/{place.document_id}", None),
            ("GET", f"/documents/{place.document_id}/chunks", None),
            ("GET", f"/collections/{place.collection_id}", None),
            ("POST", "/ingest", {"text": "X", "collection_id": place.collection_id}),
            ("POST", "/ingest", {"text": "X", "document_id": place.document_id}),
            ("POST", "/search", {"query": "X", "collection_ids": [place.collection_id]}),
        ):
            assert (await stranger.http.request(method, path, json=body)).status_code == 404, path
