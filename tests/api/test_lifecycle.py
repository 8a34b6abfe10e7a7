"""What happens to a document between its upload and its end: seen, stopped, started again, retried, deleted."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.services import files
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import NewClient, Service
from tests.fixtures.uploads import ended, found, send, upload

SLOW = Reply(delay_seconds=1.5)


async def events(response: httpx.Response) -> AsyncIterator[tuple[str | None, dict[str, Any]]]:
    """Id and data of each event."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if not line and "data" in fields:
            yield fields.get("id"), json.loads(fields.pop("data"))
            fields.clear()
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value


async def followed(
    client: httpx.AsyncClient, document_id: str, **headers: str
) -> list[tuple[str | None, dict[str, Any]]]:
    async with client.stream("GET", f"/documents/{document_id}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return [event async for event in events(response)]


async def until(client: httpx.AsyncClient, document_id: str, status: str) -> None:
    deadline = time.monotonic() + 30
    while (await client.get(f"/documents/{document_id}")).json()["status"] != status:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_progress_is_told_as_it_happens(
    provider: ScriptedProvider, provider_client: httpx.AsyncClient
) -> None:
    provider.embedding_script.append(SLOW)
    document_id = await upload(provider_client, b"Followed from the beginning to the end.")

    seen = await followed(provider_client, document_id)

    types = [event["type"] for _, event in seen]
    assert types[-1] == "completed"
    assert set(types[:-1]) == {"progress"}
    assert "embedding" in {event["stage"] for _, event in seen}
    numbers = [int(identity or 0) for identity, _ in seen]
    assert numbers == sorted(set(numbers))
    assert seen[-1][1]["progress"] == 1.0
    assert seen[-1][1]["chunks"] == 1


async def test_who_comes_back_gets_what_is_new_and_no_more(client: httpx.AsyncClient) -> None:
    document_id = await upload(client, b"Resumed by its last event.")
    await ended(client, document_id)
    ((identity, last),) = await followed(client, document_id)
    assert (last["type"], last["status"]) == ("completed", "completed")

    headers = {"Last-Event-ID": identity or ""}
    again = await client.get(f"/documents/{document_id}/events", headers=headers)
    nonsense = await followed(client, document_id, **{"Last-Event-ID": "nonsense"})

    assert (again.status_code, again.content) == (204, b"")
    assert [event["type"] for _, event in nonsense] == ["completed"]


async def test_a_failure_is_the_last_event(client: httpx.AsyncClient) -> None:
    document_id = await upload(client, b"%PDF-1.7 and nothing of a PDF", "broken.pdf")

    seen = await followed(client, document_id)

    assert seen[-1][1]["type"] == "failed"
    assert seen[-1][1]["error"]["code"] == "corrupt"


async def test_deleting_ends_the_events(
    provider: ScriptedProvider, provider_client: httpx.AsyncClient
) -> None:
    provider.embedding_script.append(SLOW)
    document_id = await upload(provider_client, b"Deleted under the eyes of its follower.")
    async with provider_client.stream("GET", f"/documents/{document_id}/events") as response:
        stream = events(response)
        await anext(stream)
        assert (await provider_client.delete(f"/documents/{document_id}")).status_code == 204
        types = [event["type"] async for _, event in stream]

    assert types[-1] == "deleted"


async def test_events_of_a_document_that_is_not_there_are_a_404(new_client: NewClient) -> None:
    mine, theirs = await new_client(), await new_client()
    document_id = await upload(mine, b"Only mine to follow.")

    assert (await theirs.get(f"/documents/{document_id}/events")).status_code == 404


async def test_a_document_that_is_deleted_while_it_is_processed_leaves_nothing(
    provider: ScriptedProvider, provider_client: httpx.AsyncClient, provider_service: Service
) -> None:
    before = await provider_service.runtime.originals.keys()
    provider.embedding_script.append(SLOW)
    document_id = await upload(provider_client, b"The submarine surfaces at midnight.")
    await until(provider_client, document_id, "processing")

    assert (await provider_client.delete(f"/documents/{document_id}")).status_code == 204
    await asyncio.sleep(2)

    assert (await provider_client.get(f"/documents/{document_id}")).status_code == 404
    assert await found(provider_client, "submarine midnight") == []
    assert await provider_service.runtime.originals.keys() == before


async def test_cancelling_the_first_version_is_a_failure_that_can_be_mended(
    provider: ScriptedProvider, provider_client: httpx.AsyncClient
) -> None:
    provider.embedding_script.append(SLOW)
    document_id = await upload(provider_client, b"Cancelled and then wanted after all.")
    await until(provider_client, document_id, "processing")

    cancelled = (await provider_client.post(f"/documents/{document_id}/cancel")).json()
    again = await provider_client.post(f"/documents/{document_id}/cancel")
    await asyncio.sleep(2)

    assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "cancelled")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "not_processing")
    assert (await provider_client.get(f"/documents/{document_id}")).json()["status"] == "failed"
    assert (await provider_client.post(f"/documents/{document_id}/reprocess")).status_code == 202
    assert (await ended(provider_client, document_id))["status"] == "completed"


async def test_cancelling_a_replacement_leaves_what_was_there(
    provider: ScriptedProvider, provider_client: httpx.AsyncClient
) -> None:
    document_id = await upload(provider_client, b"The bridge opens at noon.")
    await ended(provider_client, document_id)
    provider.embedding_script.append(SLOW)
    await send(provider_client, b"The bridge opens at six.", document_id=document_id)
    await until(provider_client, document_id, "processing")

    cancelled = (await provider_client.post(f"/documents/{document_id}/cancel")).json()

    assert (cancelled["status"], cancelled["error"]) == ("completed", None)
    assert [hit["text"] for hit in await found(provider_client, "bridge")] == ["The bridge opens at noon."]
    content = await provider_client.get(f"/documents/{document_id}/content")
    assert content.content == b"The bridge opens at noon."


async def test_of_two_replacements_the_later_one_wins(
    provider: ScriptedProvider, provider_client: httpx.AsyncClient
) -> None:
    document_id = await upload(provider_client, b"Version one of the notice.")
    await ended(provider_client, document_id)
    provider.embedding_script.append(SLOW)
    await send(provider_client, b"Version two of the notice.", document_id=document_id)
    await until(provider_client, document_id, "processing")
    await send(provider_client, b"Version three of the notice.", document_id=document_id)

    await ended(provider_client, document_id)
    await asyncio.sleep(2)

    assert [hit["text"] for hit in await found(provider_client, "notice")] == ["Version three of the notice."]


async def test_what_is_served_again_cancels_what_was_to_replace_it(
    provider: ScriptedProvider, provider_client: httpx.AsyncClient
) -> None:
    document_id = await upload(provider_client, b"The old opening hours.")
    await ended(provider_client, document_id)
    provider.embedding_script.append(SLOW)
    await send(provider_client, b"The new opening hours.", document_id=document_id)
    await until(provider_client, document_id, "processing")

    back = await send(provider_client, b"The old opening hours.", document_id=document_id)
    await asyncio.sleep(2)

    assert (back.status_code, back.json()[0]["duplicate"]) == (200, True)
    assert [hit["text"] for hit in await found(provider_client, "hours")] == ["The old opening hours."]


async def test_a_provider_that_is_away_is_waited_for(
    provider: ScriptedProvider, provider_client: httpx.AsyncClient
) -> None:
    provider.embedding_script += [Reply(status=503, headers={"Retry-After": "0"})] * 3
    document_id = await upload(provider_client, b"Embedded at the second try.")
    deadline = time.monotonic() + 30
    while not (document := (await provider_client.get(f"/documents/{document_id}")).json())["error"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert (document["status"], document["error"]["retryable"]) == ("uploaded", True)

    document = await ended(provider_client, document_id)

    assert (document["status"], document["error"], document["attempts"]) == ("completed", None, 2)


async def test_reprocessing_follows_the_collections_new_settings(client: httpx.AsyncClient) -> None:
    made = await client.post(
        "/collections", json={"name": "Rows", "splitter": "lines", "chunk_size_tokens": 64}
    )
    collection = made.json()
    assert (collection["splitter"], collection["chunk_size_tokens"], collection["chunk_overlap_tokens"]) == (
        "lines",
        64,
        None,
    )
    text = b"First line of the list\nSecond line of the list\n\nThird line of the list\n"
    document_id = await upload(client, text, "list.txt", collection_id=collection["id"])
    assert (await ended(client, document_id))["chunks"] == 3

    changed = await client.patch(
        f"/collections/{collection['id']}", json={"splitter": "sentences", "chunk_size_tokens": None}
    )
    assert changed.json()["chunk_size_tokens"] is None
    assert (await client.post(f"/documents/{document_id}/reprocess")).status_code == 202

    assert (await ended(client, document_id))["chunks"] == 1
    chunk = (await client.get(f"/documents/{document_id}/chunks")).json()[0]
    assert text.decode()[chunk["start"] : chunk["end"]] == chunk["text"]


async def test_a_text_without_a_file_is_chunked_anew(client: httpx.AsyncClient) -> None:
    text = "# One\n\nAbout the first.\n\n# Two\n\nAbout the second.\n"
    made = (await client.post("/ingest", json={"text": text})).json()
    collections = (await client.get("/collections")).json()
    await client.patch(f"/collections/{collections[0]['id']}", json={"splitter": "headings"})

    assert (await client.post(f"/documents/{made['document_id']}/reprocess")).status_code == 202

    document = await ended(client, made["document_id"])
    assert (document["status"], document["chunks"], document["pages"]) == ("completed", 2, 1)
    no_file = await client.get(f"/documents/{made['document_id']}/content")
    assert (no_file.status_code, no_file.json()["error"]["code"]) == (404, "original_not_kept")


async def test_a_damaged_file_is_not_given_out(client: httpx.AsyncClient, service: Service) -> None:
    before = await service.runtime.originals.keys()
    document_id = await upload(client, b"The disk will flip a bit of this.")
    await ended(client, document_id)
    (key,) = await service.runtime.originals.keys() - before
    async with service.runtime.originals.local_copy(key) as path:
        path.write_bytes(b"The disk has flipped a bit of this")

        response = await client.get(f"/documents/{document_id}/content")

    assert (response.status_code, response.json()["error"]["code"]) == (502, "original_damaged")


async def test_deleting_a_collection_removes_the_files_in_it(
    client: httpx.AsyncClient, service: Service
) -> None:
    before = await service.runtime.originals.keys()
    collection_id = (await client.post("/collections", json={"name": "Short-lived"})).json()["id"]
    await ended(client, await upload(client, b"Gone with its collection.", collection_id=collection_id))
    assert len(await service.runtime.originals.keys()) == len(before) + 1

    assert (await client.delete(f"/collections/{collection_id}?force=true")).status_code == 204
    await files.sweep(service.runtime)

    assert await service.runtime.originals.keys() <= before


@pytest.mark.parametrize("change", [{"title": "Renamed"}, {"tags": ["moved"]}])
async def test_what_changes_while_it_is_processed_stays_changed(
    provider: ScriptedProvider, provider_client: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    provider.embedding_script.append(SLOW)
    document_id = await upload(provider_client, b"Changed in the middle of its processing.")
    await until(provider_client, document_id, "processing")

    assert (await provider_client.patch(f"/documents/{document_id}", json=change)).status_code == 200

    document = await ended(provider_client, document_id)
    assert {name: document[name] for name in change} == change
    if "tags" in change:
        response = await provider_client.post(
            "/search", json={"query": "middle", "filters": {"tags": ["moved"]}}
        )
        assert len(response.json()["results"]) == 1
