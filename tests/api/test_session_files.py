"""Files put into a conversation: its own, searched with it, seen by nobody else, gone with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.core.errors import OriginalMissing
from app.core.principal import SYSTEM
from app.services import session_files
from tests.api.test_sessions import BROCHURE, tell
from tests.fixtures.people import Caller, Company, People
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service
from tests.fixtures.uploads import ended
from tests.fixtures.variants import client_of, variant

CONTRACT = b"Contract 4711 with Zeppelin Ltd.\n\nThe notice period of the contract is eleven weeks."
NOTICE = "What is the notice period of the contract?"


async def put(
    client: httpx.AsyncClient, content: bytes = CONTRACT, filename: str = "contract.txt", **fields: str
) -> httpx.Response:
    return await client.post("/chat/upload", files={"file": (filename, content)}, data=fields or None)


@asynccontextmanager
async def asked_without_its_file(
    service: Service, key: str, provider: ScriptedProvider
) -> AsyncIterator[tuple[httpx.AsyncClient, "asyncio.Task[httpx.Response]", str]]:
    """A long answer in the session `mine`, streamed while the one file of the session waits: who asks, the answer, the file's id."""
    provider.default = Reply(("word ",) * 2000, pause_seconds=0.05)
    async with client_of(variant(service, chat_file_wait_seconds=0), token=key) as client:
        await client.post("/ingest", json={"text": "The notice period of the contract is known."})
        uploaded = (await put(client, session_id="mine")).json()["documents"]
        body = {"message": NOTICE, "session_id": "mine", "stream": True}
        yield client, asyncio.create_task(client.post("/chat", json=body)), uploaded[0]["document_id"]


async def attached(caller: Caller, session_id: str, content: bytes = CONTRACT) -> dict[str, Any]:
    """The answer to an upload, once the file has been read."""
    response = await put(caller.http, content, session_id=session_id)
    assert response.status_code == 202, response.text
    body: dict[str, Any] = response.json()
    document = await ended(caller.http, body["documents"][0]["document_id"])
    assert document["status"] == "completed", document
    return body


async def test_a_file_makes_a_session_where_there_is_none(company: Company) -> None:
    response = await put(company.user.http)

    body = response.json()
    assert response.status_code == 202
    assert body["session_id"].startswith("sess_")
    assert body["documents"][0]["status"] == "uploaded"
    session = (await company.user.http.get(f"/chat/sessions/{body['session_id']}")).json()
    assert (session["title"], session["collection_id"]) == ("contract.txt", body["collection_id"])


async def test_files_of_a_session_are_in_one_collection_and_the_same_one_is_there_once(
    company: Company,
) -> None:
    first = (await put(company.user.http, session_id="mine")).json()
    again = await put(company.user.http, session_id="mine")
    other = (await put(company.user.http, b"Another file.", session_id="mine")).json()
    elsewhere = (await put(company.user.http, session_id="yours")).json()

    assert (again.status_code, again.json()["documents"][0]["duplicate"]) == (200, True)
    assert again.json()["documents"][0]["document_id"] == first["documents"][0]["document_id"]
    assert first["collection_id"] == other["collection_id"] != elsewhere["collection_id"]
    assert not elsewhere["documents"][0]["duplicate"]


async def test_a_file_of_a_session_is_its_owners_alone(company: Company, people: People) -> None:
    body = await attached(company.user, "mine")
    document_id, collection_id = body["documents"][0]["document_id"], body["collection_id"]
    base = f"/documents/{document_id}"
    owned = company.user.http
    for path in (base, f"{base}/text", f"{base}/chunks", f"{base}/content", f"{base}/events"):
        assert (await owned.get(path)).status_code == 200, path
    named = {"collection_id": collection_id}
    assert [found["id"] for found in (await owned.get("/documents", params=named)).json()] == [document_id]
    key = await people.key(company.id)

    for stranger in (company.other_user, company.admin, key):
        client = stranger.http
        for path in (base, f"{base}/text", f"{base}/chunks", f"{base}/content", f"{base}/events"):
            assert (await client.get(path)).status_code == 404, path
        assert (await client.delete(base)).status_code == 404
        assert (await client.patch(base, json={"title": "N"})).status_code == 404
        assert (await client.get("/documents")).json() == []
        assert (await client.get("/documents", params=named)).json() == []
        assert (await client.get(f"/collections/{collection_id}")).status_code in (404, 403)
        found = await client.post("/search", json={"query": NOTICE})
        assert found.json()["results"] == []
        named_search = await client.post("/search", json={"query": NOTICE, "collection_ids": [collection_id]})
        assert named_search.json()["error"]["code"] == "collection_not_found"
        filtered = {"query": NOTICE, "filters": {"document_ids": [document_id]}}
        assert (await client.post("/search", json=filtered)).json()["results"] == []
        asked = await client.post("/chat", json={"message": NOTICE})
        assert asked.json()["refused"] is True
        into = await client.post("/ingest", json={"text": "Sneaked in", "collection_id": collection_id})
        assert into.status_code == 404
        assert (await put(client, session_id="mine")).status_code == 404


async def test_no_list_of_collections_has_those_of_sessions(company: Company) -> None:
    body = await attached(company.admin, "mine")

    listed = (await company.admin.http.get("/collections")).json()

    assert body["collection_id"] not in [collection["id"] for collection in listed]
    own = (await company.admin.http.get(f"/collections/{body['collection_id']}")).json()
    assert (own["session_id"], own["documents"]) == ("mine", 1)


@pytest.mark.parametrize("route", ["users", "user", "open"])
async def test_files_of_a_session_are_opened_to_nobody_not_even_by_an_admin(
    company: Company, route: str
) -> None:
    body = await attached(company.admin, "mine")
    path = f"/collections/{body['collection_id']}"
    granted = {"user_id": company.user.id, "permission": "read"}

    if route == "users":
        response = await company.admin.http.put(f"{path}/users", json={"users": [granted]})
    elif route == "user":
        response = await company.admin.http.put(
            f"{path}/users/{company.user.id}", json={"permission": "read"}
        )
    else:
        response = await company.admin.http.patch(path, json={"visibility": "organization"})

    assert response.json()["error"]["code"] == "personal_collection"


async def test_a_search_finds_files_of_a_session_only_where_its_owner_names_them(company: Company) -> None:
    await company.admin.ingest(BROCHURE)
    body = await attached(company.user, "mine")

    everywhere = await company.user.found(NOTICE)
    named = await company.user.found(NOTICE, collection_ids=[body["collection_id"]])

    assert everywhere == {BROCHURE}
    assert any("eleven weeks" in found for found in named)


async def test_a_file_dies_with_its_session_and_nothing_of_it_stays(
    company: Company, service: Service
) -> None:
    body = await attached(company.user, "mine")
    document_id = body["documents"][0]["document_id"]
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        key = await session.scalar(
            text("SELECT storage_key FROM documents WHERE id = :id"), {"id": document_id}
        )
    assert key is not None

    assert (await company.user.http.delete("/chat/sessions/mine")).status_code == 204

    assert (await company.user.http.get(f"/documents/{document_id}")).status_code == 404
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        for table, column in (
            ("documents", "id"),
            ("chunks", "document_id"),
            ("pages", "document_id"),
            ("jobs", "document_id"),
        ):
            count = text(f"SELECT count(*) FROM {table} WHERE {column} = :id")
            assert await session.scalar(count, {"id": document_id}) == 0
        assert (
            await session.scalar(
                text("SELECT count(*) FROM file_deletions WHERE storage_key = :k"), {"k": key}
            )
            == 0
        )
    with pytest.raises(OriginalMissing):
        [block async for block in service.runtime.originals.read(key)]


async def test_a_session_deleted_while_its_file_is_read_leaves_nothing(
    company: Company, service: Service
) -> None:
    body = (await put(company.user.http, CONTRACT * 200, session_id="mine")).json()
    document_id = body["documents"][0]["document_id"]

    async with company.user.http.stream("GET", f"/documents/{document_id}/events") as events:
        lines = events.aiter_lines()
        await anext(lines)
        assert (await company.user.http.delete("/chat/sessions/mine")).status_code == 204
        seen = [line async for line in lines if line.startswith("event: ")]

    assert seen[-1] in ("event: deleted", "event: completed")
    for _ in range(100):
        async with service.runtime.database.unit_of_work(SYSTEM) as session:
            left = await session.scalar(
                text("SELECT count(*) FROM chunks WHERE document_id = :id"), {"id": document_id}
            )
        assert left == 0
        if (await company.user.http.get(f"/documents/{document_id}")).status_code == 404:
            break
        await asyncio.sleep(0.05)


async def test_what_can_not_be_read_makes_no_session(company: Company) -> None:
    refused = await put(company.user.http, b"\x00\x01\x02\x03" * 100, "thing.bin", session_id="none")
    empty = await put(company.user.http, b"", session_id="none")
    nothing = await company.user.http.post("/chat/upload", json={"file": "x"})
    unknown = await put(company.user.http, session_id="none", collection_id="col_1")

    assert refused.status_code in (415, 422)
    assert (empty.status_code, nothing.status_code, unknown.status_code) == (422, 422, 422)
    assert (await company.user.http.get("/chat/sessions")).json() == []


async def test_a_session_has_so_many_files_and_no_more(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_files, "_MOST_FILES", 2)
    for number in range(2):
        assert (await put(company.user.http, f"File {number}".encode(), session_id="mine")).status_code == 202

    response = await put(company.user.http, b"One more", session_id="mine")

    assert (response.status_code, response.json()["error"]["code"]) == (409, "too_many_session_files")


async def test_a_document_is_not_moved_into_a_session_that_is_full(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = (await put(company.user.http, session_id="mine")).json()
    document_id = await company.user.ingest("Another one, of one's own.")
    monkeypatch.setattr(session_files, "_MOST_FILES", 1)

    moved = await company.user.http.patch(
        f"/documents/{document_id}", json={"collection_id": first["collection_id"]}
    )

    assert (moved.status_code, moved.json()["error"]["code"]) == (409, "too_many_session_files")


@pytest.mark.parametrize("route", ["/chat/upload", "/documents", "/ingest"])
async def test_files_that_come_at_once_are_no_more_than_a_session_can_have(
    company: Company, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    first = (await put(company.user.http, session_id="mine")).json()
    monkeypatch.setattr(session_files, "_MOST_FILES", 3)

    async def another(number: int) -> httpx.Response:
        text = f"File {number} of those that come at once."
        if route == "/chat/upload":
            return await put(company.user.http, text.encode(), session_id="mine")
        place = {"collection_id": first["collection_id"]}
        if route == "/documents":
            return await company.user.http.post(route, files={"file": ("a.txt", text.encode())}, data=place)
        return await company.user.http.post(route, json={"text": text, **place})

    responses = await asyncio.gather(*(another(number) for number in range(8)))

    refused = [response for response in responses if "too_many_session_files" in response.text]
    assert len(refused) == 6
    assert {response.status_code for response in refused} == {409}
    collection = await company.user.http.get(f"/collections/{first['collection_id']}")
    assert collection.json()["documents"] == 3


async def test_the_same_upload_again_with_its_key_makes_one_session(company: Company) -> None:
    headers = {"Idempotency-Key": "one"}
    form = {"file": ("contract.txt", CONTRACT)}
    first, second = [
        await company.user.http.post("/chat/upload", files=form, headers=headers) for _ in range(2)
    ]

    assert first.json() == second.json()
    assert len((await company.user.http.get("/chat/sessions")).json()) == 1


async def test_a_key_restricted_to_collections_has_files_in_its_sessions(
    company: Company, people: People
) -> None:
    collection_id = await company.admin.collection("Only this")
    key = await people.key(company.id, collection_ids=frozenset({collection_id}))

    body = await attached(key, "of a key".replace(" ", "_"))

    found = await key.found(NOTICE, collection_ids=[body["collection_id"]])
    assert any("eleven weeks" in text_found for text_found in found)
    assert await key.found(NOTICE) == set()


async def test_a_session_that_had_questions_keeps_its_title(company: Company, service: Service) -> None:
    await tell(service, company.user.principal, "mine", "About the contract")

    await attached(company.user, "mine")

    assert (await company.user.http.get("/chat/sessions/mine")).json()["title"] == "About the contract"
