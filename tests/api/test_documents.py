"""Documents and their chunks: exact offsets for any text, pages of a list, duplicates, replacement, organizations."""

import httpx
import pytest

from tests.fixtures.service import NewClient

TEXTS = {
    "emoji": "Family 👨‍👩‍👧‍👦 and flags 🇲🇾🇩🇪. " * 60,
    "cjk": "東京は日本の首都です。人口は約千四百万人です。" * 60,
    "combining": "Cafe\u0301 noe\u0308l a\u030angstro\u0308m. " * 80,
    "crlf": "First line\r\nSecond line\r\n\r\nNew paragraph.\r\n" * 60,
    "arabic": "هذا نص عربي طويل يتحدث عن الطاقة. " * 60,
    "thai": "นี่คือข้อความภาษาไทยที่ไม่มีช่องว่างระหว่างคำ " * 60,
    "no space": "a" * 5_000,
    "private use": "\ue000\uf8ff text \U0010ffff end. " * 60,
    "math": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝕞𝕒𝕥𝕙. " * 80,
}


async def ingest(client: httpx.AsyncClient, text: str, **fields: object) -> str:
    response = await client.post("/ingest", json={"text": text, **fields})
    assert response.status_code == 200, response.text
    document_id: str = response.json()["document_id"]
    return document_id


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_every_chunk_stands_where_it_says(client: httpx.AsyncClient, text: str) -> None:
    document_id = await ingest(client, text)

    chunks = (await client.get(f"/documents/{document_id}/chunks?limit=200")).json()

    assert chunks
    assert [chunk["ordinal"] for chunk in chunks] == list(range(len(chunks)))
    for chunk in chunks:
        assert text[chunk["start"] : chunk["end"]] == chunk["text"]
    covered = {position for chunk in chunks for position in range(chunk["start"], chunk["end"])}
    assert all(position in covered for position, character in enumerate(text) if not character.isspace())


async def test_nul_is_dropped(client: httpx.AsyncClient) -> None:
    content = (
        '{"text": "Before\\u0000after", "title": "A\\u0000B", "metadata": {"k\\u0000": ["v\\u0000\\udfff"]}}'
    )
    response = await client.post("/ingest", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 200

    document = (await client.get(f"/documents/{response.json()['document_id']}")).json()
    chunk = (await client.get(f"/documents/{document['id']}/chunks")).json()[0]

    assert chunk["text"] == "Beforeafter"
    assert (document["title"], document["metadata"]) == ("AB", {"k": ["v\ufffd"]})


async def test_a_lone_surrogate_is_no_text(client: httpx.AsyncClient) -> None:
    content = '{"text": "half an emoji \\ud83d"}'
    response = await client.post("/ingest", content=content, headers={"Content-Type": "application/json"})

    assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error")


async def test_a_document_shows_what_was_said_of_it(client: httpx.AsyncClient) -> None:
    metadata = {"year": 2024, "tags": ["inside"], "nested": {"a": [1, 2.5, None, True]}}
    document_id = await ingest(
        client, "# Heading\n\nText", source="a.md", tags=["outside"], metadata=metadata
    )

    document = (await client.get(f"/documents/{document_id}")).json()

    assert document["title"] == "Heading"
    assert document["tags"] == ["outside", "inside"]
    assert document["metadata"] == metadata
    assert (document["status"], document["pages"], document["chunks"], document["source"]) == (
        "completed",
        1,
        1,
        "a.md",
    )
    assert document["created_at"].endswith("Z")


async def test_the_same_text_is_the_same_document(client: httpx.AsyncClient) -> None:
    first = await ingest(client, "The very same text.")

    again = (
        await client.post("/ingest", json={"text": "The very same text.", "title": "Another title"})
    ).json()

    assert (again["document_id"], again["duplicate"]) == (first, True)
    assert len((await client.get("/documents")).json()) == 1


async def test_new_text_for_a_document_replaces_the_old(client: httpx.AsyncClient) -> None:
    document_id = await ingest(client, "The capital of Assyria was Nineveh.")

    response = await client.post("/ingest", json={"text": "Bananas are yellow.", "document_id": document_id})

    assert response.json()["document_id"] == document_id
    found = (await client.post("/search", json={"query": "capital of Assyria"})).json()["results"]
    assert [hit["text"] for hit in found] == ["Bananas are yellow."]
    assert len((await client.get("/documents")).json()) == 1


async def test_a_text_can_not_become_a_second_document_by_replacing(client: httpx.AsyncClient) -> None:
    await ingest(client, "One")
    second = await ingest(client, "Two")

    response = await client.post("/ingest", json={"text": "One", "document_id": second})

    assert (response.status_code, response.json()["error"]["code"]) == (409, "conflict")


async def test_the_list_is_paged_newest_first(client: httpx.AsyncClient) -> None:
    made = [await ingest(client, f"Document number {number}") for number in range(7)]

    seen: list[str] = []
    url = "/documents?limit=3"
    for _ in range(3):
        response = await client.get(url)
        seen += [document["id"] for document in response.json()]
        link = response.headers.get("link")
        if link is None:
            break
        assert link.endswith('; rel="next"')
        url = link[1 : link.index(">")]

    assert seen == made[::-1]
    assert [d["id"] for d in (await client.get("/documents?limit=2&offset=2")).json()] == made[::-1][2:4]


async def test_the_list_is_filtered(client: httpx.AsyncClient) -> None:
    wanted = await ingest(client, "One", title="Annual Report 100%", tags=["finance"])
    await ingest(client, "Two", title="Menu", tags=["food"])

    for query in ("?tag=finance", "?title=annual", "?title=100%25"):
        assert [d["id"] for d in (await client.get(f"/documents{query}")).json()] == [wanted], query
    assert (await client.get("/documents?status=failed")).json() == []
    assert (await client.get("/documents?title=%25")).json()[0]["id"] == wanted
    assert (await client.get("/documents?tag=%27%20OR%201%3D1")).json() == []


async def test_documents_of_another_organization_do_not_exist(new_client: NewClient) -> None:
    mine, theirs = await new_client(), await new_client()
    document_id = await ingest(mine, "The canary sings at midnight.")
    random_id = "doc_" + "0" * 26

    for method, path in (("GET", ""), ("GET", "/chunks"), ("DELETE", "")):
        foreign = await theirs.request(method, f"/documents/{document_id}{path}")
        unknown = await theirs.request(method, f"/documents/{random_id}{path}")
        assert foreign.status_code == unknown.status_code == 404
        assert {**foreign.json()["error"], "request_id": ""} == {**unknown.json()["error"], "request_id": ""}
    assert (await theirs.get("/documents")).json() == []
    assert (await theirs.post("/search", json={"query": "canary midnight"})).json()["results"] == []
    replaced = await theirs.post("/ingest", json={"text": "Mine now", "document_id": document_id})
    assert replaced.status_code == 404
    assert (await mine.get(f"/documents/{document_id}")).status_code == 200


async def test_the_v1_prefix_serves_the_same(client: httpx.AsyncClient) -> None:
    document_id = await ingest(client, "Versioned")

    assert (await client.get(f"/v1/documents/{document_id}")).json()["id"] == document_id
    assert (await client.get("/v1/health")).json()["status"] == "ok"
