"""The main job from the outside: ingest, search, ask, delete."""

import httpx

BROCHURE = """Eternalgy EMS Brochure

Eternalgy EMS is an energy management system for factories. It measures every machine each second and shows where
electricity is wasted. Customers save between 12 and 18 percent of their bill in the first year.

The system is installed in two days and needs no change to the machines. A gateway of 20 by 30 centimetres is mounted in
the distribution board. The warranty is five years.
"""


async def ingest(client: httpx.AsyncClient, text: str, **fields: object) -> str:
    response = await client.post("/ingest", json={"text": text, **fields})
    assert response.status_code == 200, response.text
    document_id: str = response.json()["document_id"]
    return document_id


async def test_a_text_is_searchable_when_ingest_answers(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/ingest", json={"text": BROCHURE, "title": "Eternalgy EMS Brochure", "source": "brochure_v1.pdf"}
    )

    assert response.status_code == 200
    document_id = response.json()["document_id"]
    assert response.json() == {
        "document_id": document_id,
        "status": "indexed",
        "duplicate": False,
        "chunks": 1,
    }
    found = (await client.post("/search", json={"query": "How long is the warranty?"})).json()["results"]
    assert found[0]["document_id"] == document_id
    assert found[0]["source"] == "brochure_v1.pdf"
    assert "warranty is five years" in found[0]["text"]
    assert BROCHURE[found[0]["start"] : found[0]["end"]] == found[0]["text"]


async def test_a_question_is_answered_in_the_words_of_the_document_with_its_citation(
    client: httpx.AsyncClient,
) -> None:
    document_id = await ingest(client, BROCHURE, title="Eternalgy EMS Brochure", source="brochure_v1.pdf")

    answer = (await client.post("/chat", json={"message": "How long is the warranty?"})).json()

    assert answer["answer"] == "The warranty is five years. [1]"
    assert answer["model"] == "extractive"
    assert answer["refused"] is False
    source = answer["sources"][0]
    assert (source["n"], source["document_id"], source["page"], source["cited"]) == (1, document_id, 1, True)
    assert answer["session_id"].startswith("sess_")


async def test_an_off_topic_question_is_refused_without_sources(client: httpx.AsyncClient) -> None:
    await ingest(client, BROCHURE)

    answer = (await client.post("/chat", json={"message": "Who won the football world cup in 1998?"})).json()

    assert answer["refused"] is True
    assert answer["sources"] == []
    assert "[1]" not in answer["answer"]


async def test_a_deleted_document_is_found_no_more(client: httpx.AsyncClient) -> None:
    document_id = await ingest(client, BROCHURE)

    assert (await client.delete(f"/documents/{document_id}")).status_code == 204

    assert (await client.get(f"/documents/{document_id}")).status_code == 404
    assert (await client.post("/search", json={"query": "warranty"})).json()["results"] == []
    assert (await client.get("/documents")).json() == []
