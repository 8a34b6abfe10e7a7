"""Answers that use the files of their session: waited for, shown while they are read, named when they were not ready."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from app.services.runtime import Runtime
from tests.api.test_session_files import NOTICE, asked_without_its_file, attached, put
from tests.api.test_sessions import BROCHURE
from tests.fixtures.people import Company
from tests.fixtures.provider import ScriptedProvider
from tests.fixtures.service import Service
from tests.fixtures.sockets import socket_of
from tests.fixtures.variants import client_of, variant
from tests.fixtures.workers import PATIENCE_SECONDS, working


@pytest.fixture
async def key(idle_service: Service, provider: ScriptedProvider) -> str:
    key, _ = await idle_service.new_key()
    return key


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]


async def test_an_answer_uses_the_files_of_its_session_and_of_no_other(company: Company) -> None:
    await company.admin.ingest(BROCHURE)
    await attached(company.user, "with")
    await attached(company.other_user, "others", b"The notice period of the other contract is two days.")
    body = {"message": NOTICE, "session_id": "with"}

    answer = (await company.user.http.post("/chat", json=body)).json()
    without = (await company.user.http.post("/chat", json={**body, "session_id": "without"})).json()

    assert "eleven weeks. [" in answer["answer"]
    assert answer["pending_documents"] == []
    cited = [source for source in answer["sources"] if source["cited"]]
    assert [source["title"] for source in cited] == ["contract.txt"]
    assert without["refused"] is True


async def test_files_of_a_session_are_used_beside_the_collections_that_a_question_names(
    company: Company,
) -> None:
    collection_id = await company.admin.collection("Brochures")
    await company.admin.ingest(BROCHURE, collection_id=collection_id)
    await attached(company.user, "mine")

    for message, wanted in ((NOTICE, "eleven weeks"), ("How long is the warranty?", "five years")):
        body = {"message": message, "session_id": "mine", "collection_ids": [collection_id]}
        answer = (await company.user.http.post("/chat", json=body)).json()
        assert wanted in answer["answer"]


async def test_an_admins_answer_uses_own_files_beside_everything_and_nobody_elses(company: Company) -> None:
    await company.admin.ingest(BROCHURE)
    await attached(company.user, "users")
    await attached(company.admin, "admins", b"The access code of the archive is 7341.")

    for message, wanted in (
        ("What is the access code of the archive?", "7341"),
        ("How long is the warranty?", "five years"),
    ):
        body = {"message": message, "session_id": "admins"}
        assert wanted in (await company.admin.http.post("/chat", json=body)).json()["answer"]
    asked = await company.admin.http.post("/chat", json={"message": NOTICE, "session_id": "admins"})
    assert "eleven weeks" not in asked.text


async def test_a_first_question_gives_its_name_to_a_session_that_was_called_after_a_file(
    company: Company,
) -> None:
    await attached(company.user, "mine")
    await company.user.http.post("/chat", json={"message": NOTICE, "session_id": "mine"})

    assert (await company.user.http.get("/chat/sessions/mine")).json()["title"] == NOTICE


async def test_an_answer_that_could_not_wait_says_which_files_it_is_without(
    idle_service: Service, key: str
) -> None:
    async with client_of(variant(idle_service, chat_file_wait_seconds=0), token=key) as client:
        made = (await put(client, session_id="mine")).json()["documents"][0]
        answer = (await client.post("/chat", json={"message": NOTICE, "session_id": "mine"})).json()
        assert [
            (document["document_id"], document["title"], document["status"])
            for document in answer["pending_documents"]
        ] == [(made["document_id"], "contract.txt", "uploaded")]
        assert answer["refused"] is True

        async with working(idle_service.runtime):
            await _until_read(client, made["document_id"])
        answer = (await client.post("/chat", json={"message": NOTICE, "session_id": "mine"})).json()

    assert answer["pending_documents"] == []
    assert answer["sources"][0]["document_id"] == made["document_id"]


async def test_an_answer_waits_for_a_file_and_shows_how_far_it_is(idle_service: Service, key: str) -> None:
    app = variant(idle_service, chat_file_wait_seconds=100)
    async with client_of(app, token=key) as client:
        document_id = (await put(client, session_id="mine")).json()["documents"][0]["document_id"]
        body = {"message": NOTICE, "session_id": "mine", "stream": True}
        asking = asyncio.create_task(client.post("/chat", json=body))
        await _until_told(idle_service.runtime)

        async with working(idle_service.runtime):
            events = events_of(await asking)

    types = [event["type"] for event in events]
    told = [event["document"] for event in events if event["type"] == "document_progress"]
    assert types[0] == "session"
    assert types.index("sources") > max(
        place for place, type_ in enumerate(types) if type_ == "document_progress"
    )
    assert types[-1] == "done"
    assert (told[0]["status"], told[-1]["type"]) == ("uploaded", "completed")
    assert {progress["document_id"] for progress in told} == {document_id}
    assert events[-1]["pending_documents"] == []
    assert events[-1]["sources"][0]["document_id"] == document_id


async def test_a_file_is_followed_while_the_answer_goes_on_without_it(
    idle_service: Service, key: str, provider: ScriptedProvider
) -> None:
    async with asked_without_its_file(idle_service, key, provider) as (_, asking, _):
        await _until_told(idle_service.runtime)

        async with working(idle_service.runtime):
            await _until_told(idle_service.runtime, "completed")
        [turn] = _turns(idle_service.runtime)
        turn.stop()
        events = events_of(await asking)

    told = [event["document"]["type"] for event in events if event["type"] == "document_progress"]
    assert told[-1] == "completed"
    assert (events[-1]["type"], len(events[-1]["pending_documents"])) == ("done", 1)


async def test_a_file_that_can_not_be_read_is_told_and_waited_for_no_more(
    idle_service: Service, key: str
) -> None:
    async with client_of(variant(idle_service, chat_file_wait_seconds=100), token=key) as client:
        response = await put(client, b"%PDF-1.7\nbroken", "broken.pdf", session_id="mine")
        assert response.status_code == 202, response.text
        body = {"message": NOTICE, "session_id": "mine", "stream": True}
        asking = asyncio.create_task(client.post("/chat", json=body))
        await _until_told(idle_service.runtime)

        async with working(idle_service.runtime):
            events = events_of(await asking)

    last = [event["document"] for event in events if event["type"] == "document_progress"][-1]
    assert (last["type"], last["error"]["retryable"]) == ("failed", False)
    assert (events[-1]["type"], events[-1]["pending_documents"]) == ("done", [])


async def test_a_session_deleted_while_its_answer_waits_for_a_file_ends_the_stream(
    idle_service: Service, key: str
) -> None:
    async with client_of(variant(idle_service, chat_file_wait_seconds=100), token=key) as client:
        await put(client, session_id="mine")
        body = {"message": NOTICE, "session_id": "mine", "stream": True}
        asking = asyncio.create_task(client.post("/chat", json=body))
        await _until_told(idle_service.runtime)

        assert (await client.delete("/chat/sessions/mine")).status_code == 204
        events = events_of(await asking)

    assert events[-1]["type"] in ("done", "error")
    assert not len(idle_service.runtime.turns)


async def test_a_socket_tells_how_far_a_file_of_the_session_is(idle_service: Service, key: str) -> None:
    async with idle_service.client(key) as client, socket_of(idle_service, key) as socket:
        document_id = (await put(client, session_id="mine")).json()["documents"][0]["document_id"]

        await socket.send("user_message", message=NOTICE, session_id="mine", ref="q")
        start, progress = await socket.until("document_progress")
        await socket.send("stop", message_id=start["message_id"])
        end = (await socket.until("stream_end", "error"))[-1]

    assert (progress["ref"], progress["document"]["document_id"]) == ("q", document_id)
    assert progress["document"]["status"] == "uploaded"
    assert end["type"] == "stream_end"


async def test_a_turn_of_a_session_without_files_looks_for_none(
    company: Company, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.services import session_files

    def never(*_: Any) -> None:
        raise AssertionError("the files of a session without any were looked at")

    monkeypatch.setattr(session_files, "Watch", never)
    await company.user.ingest(BROCHURE)

    answer = (await company.user.http.post("/chat", json={"message": "How long is the warranty?"})).json()

    assert answer["answer"].startswith("The warranty")


def _turns(runtime: Runtime) -> list[Any]:
    return list(runtime.turns._turns.values())


async def _until_told(runtime: Runtime, status: str = "uploaded") -> None:
    """Until the one turn there is has told of a file in this state."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any(notice.status == status for turn in _turns(runtime) for notice in turn.notices):
            await asyncio.sleep(0.01)


async def _until_read(client: httpx.AsyncClient, document_id: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await client.get(f"/documents/{document_id}")).json()["status"] != "completed":
            await asyncio.sleep(0.05)
