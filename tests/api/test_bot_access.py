"""Who may use a bot, and what it answers from: its own collections, never beyond its organization."""

from typing import Any

import httpx
import pytest

from app.core.principal import Role, Scope
from tests.api.test_bots import EXTRACTIVE, ask, make, patch
from tests.fixtures.people import Caller, Company, People
from tests.fixtures.service import Service

FACT = "The code of the archive room is 4711."
QUESTION = "What is the code of the archive room?"


async def archive(company: Company) -> str:
    """A collection with the fact that only admins see."""
    collection_id = await company.admin.collection("Archive", "restricted")
    await company.admin.ingest(FACT, collection_id=collection_id)
    return collection_id


async def refused(caller: Caller, bot_id: str, **fields: Any) -> str:
    response = await caller.http.post("/chat", json={"message": QUESTION, "bot_id": bot_id, **fields})
    assert response.status_code == 404, response.text
    code: str = response.json()["error"]["code"]
    return code


async def test_a_bot_answers_from_its_collections_where_the_user_may_not_list_them(company: Company) -> None:
    collection_id = await archive(company)
    bot = await make(company.admin, collection_ids=[collection_id])

    without = await ask(company.user, None, QUESTION)
    answer = await ask(company.user, bot["id"], QUESTION)

    assert "4711" not in without["answer"]
    assert "4711" in answer["answer"]
    assert answer["sources"][0]["cited"]
    document = await company.user.http.get(f"/documents/{answer['sources'][0]['document_id']}")
    assert document.status_code == 404
    assert FACT not in await company.user.found(QUESTION)


async def test_a_bot_with_collections_answers_from_no_others(company: Company) -> None:
    await company.user.ingest(FACT)
    other = await company.admin.collection("Other")
    bot = await make(company.admin, collection_ids=[other])

    answer = await ask(company.user, bot["id"], QUESTION)

    assert answer["refused"]
    assert answer["sources"] == []


async def test_a_request_narrows_the_bots_collections_and_can_not_widen_them(company: Company) -> None:
    first, second = await archive(company), await company.admin.collection("Second")
    outside = await company.admin.collection("Outside")
    bot = await make(company.admin, collection_ids=[first, second])

    narrowed = await ask(company.user, bot["id"], QUESTION, collection_ids=[second])
    named = await ask(company.user, bot["id"], QUESTION, collection_ids=[first])

    assert narrowed["refused"]
    assert "4711" in named["answer"]
    assert await refused(company.user, bot["id"], collection_ids=[outside]) == "collection_not_found"


async def test_a_bot_whose_last_collection_was_deleted_answers_from_nothing(company: Company) -> None:
    await company.user.ingest(FACT)
    collection_id = await company.admin.collection("Short-lived")
    bot = await make(company.admin, collection_ids=[collection_id])
    await company.admin.http.delete(f"/collections/{collection_id}")

    answer = await ask(company.user, bot["id"], QUESTION)
    opened = await patch(company.admin, bot, collection_ids=None)

    assert answer["refused"]
    assert opened["collection_ids"] is None
    assert "4711" in (await ask(company.user, bot["id"], QUESTION))["answer"]


async def test_a_restricted_bot_is_for_those_on_its_list_from_their_next_request(company: Company) -> None:
    bot = await make(company.admin, visibility="restricted")
    path = f"/bots/{bot['id']}"
    listed = f"{path}/users/{company.user.id}"

    before = [await refused(company.user, bot["id"]), (await company.user.http.get("/bots")).json()]
    assert (await company.admin.http.put(listed)).status_code == 204
    await ask(company.user, bot["id"], QUESTION)
    during = [bot["id"] for bot in (await company.user.http.get("/bots")).json()]
    other = await refused(company.other_user, bot["id"])
    assert (await company.admin.http.delete(listed)).status_code == 204

    assert before == ["bot_not_found", []]
    assert (during, other) == ([bot["id"]], "bot_not_found")
    assert await refused(company.user, bot["id"]) == "bot_not_found"
    assert (await company.user.http.get(path)).status_code == 404
    assert (await company.admin.http.delete(listed)).json()["error"]["code"] == "user_not_found"
    await ask(company.admin, bot["id"], QUESTION)


async def test_another_organizations_bot_does_not_exist(company: Company, people: People) -> None:
    bot = await make(company.admin, collection_ids=[await archive(company)])
    stranger = await people.person(await people.organization(), Role.ADMIN)
    own = await make(stranger)
    path = f"/bots/{bot['id']}"

    answers = [
        await stranger.http.get(path),
        await stranger.http.patch(path, json={"persona": "x"}),
        await stranger.http.delete(path),
        await stranger.http.get(f"{path}/versions"),
        await stranger.http.post(f"{path}/versions/1/restore"),
        await stranger.http.get(f"{path}/statistics"),
        await stranger.http.post(f"{path}/try"),
        await stranger.http.put(f"{path}/users/{stranger.id}"),
        await stranger.http.post("/chat", json={"message": QUESTION, "bot_id": bot["id"]}),
        await stranger.http.post("/api-keys", json={"name": "K", "scopes": ["chat"], "bot_id": bot["id"]}),
    ]
    foreign_user = await stranger.http.put(f"/bots/{own['id']}/users/{company.user.id}")
    foreign_collection = await stranger.http.patch(
        f"/bots/{own['id']}", json={"collection_ids": bot["collection_ids"]}
    )

    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in answers} == {
        (404, "bot_not_found")
    }
    assert foreign_user.json()["error"]["code"] == "user_not_found"
    assert foreign_collection.json()["error"]["code"] == "collection_not_found"
    assert [bot["id"] for bot in (await stranger.http.get("/bots")).json()] == [own["id"]]


async def test_a_key_that_is_restricted_to_collections_stays_so_with_a_bot(
    company: Company, people: People
) -> None:
    collection_id = await archive(company)
    other = await company.admin.collection("Other")
    bot = await make(company.admin, collection_ids=[collection_id, other])
    within = await people.key(company.id, collection_ids=frozenset({other}))

    answer = await ask(within, bot["id"], QUESTION)

    assert answer["refused"]
    assert await refused(within, bot["id"], collection_ids=[collection_id]) == "collection_not_found"
    changed = await within.http.patch(f"/bots/{bot['id']}", json={"persona": "x"})
    assert changed.json()["error"]["code"] == "key_is_restricted"


@pytest.fixture
async def bound(service: Service) -> Any:
    """An admin's key, and makes keys that are bound to a bot."""
    key, _ = await service.new_key()
    async with service.client(key) as admin:
        yield admin


async def bound_key(admin: httpx.AsyncClient, bot_id: str) -> str:
    made = await admin.post("/api-keys", json={"name": "K", "scopes": ["chat"], "bot_id": bot_id})
    assert made.status_code == 201, made.text
    assert made.json()["bot_id"] == bot_id
    key: str = made.json()["key"]
    return key


async def test_a_key_bound_to_a_bot_talks_to_it_alone(service: Service, bound: httpx.AsyncClient) -> None:
    await bound.post("/ingest", json={"text": FACT})
    ids = [
        (await bound.post("/bots", json={"name": name, **EXTRACTIVE, "persona": "x"})).json()["id"]
        for name in ("First", "Second")
    ]
    async with service.client(await bound_key(bound, ids[0])) as client:
        named = await client.post("/chat", json={"message": QUESTION, "bot_id": ids[0]})
        unnamed = await client.post("/chat", json={"message": QUESTION})
        other = await client.post("/chat", json={"message": QUESTION, "bot_id": ids[1]})
        default = await client.post("/chat", json={"message": QUESTION, "bot_id": "default"})
        listed = await client.get("/bots")
        hidden = await client.get(f"/bots/{ids[1]}")
        searched = await client.post("/search", json={"query": QUESTION})
        await bound.delete(f"/bots/{ids[0]}")
        gone = await client.post("/chat", json={"message": QUESTION})

    assert (named.status_code, unnamed.status_code) == (200, 200)
    assert (other.status_code, default.status_code, hidden.status_code) == (404, 404, 404)
    assert listed.json() == [{"id": ids[0], "name": "First", "description": ""}]
    assert searched.status_code == 403
    assert gone.status_code == 401, "a bound key goes with its bot: unbound it could do more"
    statistics = (await bound.get(f"/bots/{ids[1]}/statistics")).json()
    assert statistics["total"]["turns"] == 0


async def test_a_bound_key_has_no_other_scope(bound: httpx.AsyncClient) -> None:
    bot = (await bound.post("/bots", json={"name": "B", **EXTRACTIVE})).json()

    response = await bound.post(
        "/api-keys", json={"name": "K", "scopes": ["chat", "search"], "bot_id": bot["id"]}
    )

    assert (response.status_code, response.json()["error"]["code"]) == (422, "bound_key_chats_only")


async def test_a_session_goes_on_with_its_bot(company: Company) -> None:
    bot = await make(company.admin, collection_ids=[await archive(company)])
    first = await ask(company.user, bot["id"], QUESTION)

    second = await ask(company.user, None, QUESTION, session_id=first["session_id"])
    third = await ask(company.user, "default", QUESTION, session_id=first["session_id"])
    fourth = await ask(company.user, None, QUESTION, session_id=first["session_id"])
    statistics = (await company.admin.http.get(f"/bots/{bot['id']}/statistics")).json()

    messages = (await company.user.http.get(f"/chat/sessions/{first['session_id']}/messages")).json()
    shown = (await company.user.http.get(f"/chat/sessions/{first['session_id']}")).json()

    assert "4711" in second["answer"]
    answered_by = [message["bot_version_id"] for message in messages if message["role"] == "assistant"]
    assert answered_by == [bot["version_id"], bot["version_id"], None, None]
    assert shown["bot_id"] is None
    assert "4711" not in third["answer"] + fourth["answer"]
    assert statistics["total"]["turns"] == 2


async def test_a_session_of_a_bot_that_is_not_the_users_any_more_needs_another_one(company: Company) -> None:
    bot = await make(company.admin, visibility="restricted")
    await company.admin.http.put(f"/bots/{bot['id']}/users/{company.user.id}")
    session_id = (await ask(company.user, bot["id"], QUESTION))["session_id"]
    await company.admin.http.delete(f"/bots/{bot['id']}/users/{company.user.id}")

    response = await company.user.http.post("/chat", json={"message": QUESTION, "session_id": session_id})

    assert (response.status_code, response.json()["error"]["code"]) == (404, "bot_not_found")
    await ask(company.user, "default", QUESTION, session_id=session_id)


async def test_only_admins_make_and_change_bots(company: Company, people: People) -> None:
    bot = await make(company.admin)
    chat_key = await people.key(company.id, Scope.CHAT)

    for caller in (company.user, chat_key):
        answers = [
            await caller.http.post("/bots", json={"name": "N", **EXTRACTIVE}),
            await caller.http.patch(f"/bots/{bot['id']}", json={"persona": "x"}),
            await caller.http.get(f"/bots/{bot['id']}/versions"),
            await caller.http.post("/bots/try", json={"provider": "openai", "model": "m"}),
        ]
        assert {answer.status_code for answer in answers} == {403}


async def test_a_bot_is_not_given_the_files_of_somebodys_session(company: Company) -> None:
    files = {"file": ("note.txt", FACT.encode())}
    uploaded = await company.user.http.post("/chat/upload", files=files)
    collection_id = uploaded.json()["collection_id"]

    response = await company.admin.http.post(
        "/bots", json={"name": "N", **EXTRACTIVE, "collection_ids": [collection_id]}
    )

    assert uploaded.is_success, uploaded.text
    assert (response.status_code, response.json()["error"]["code"]) == (404, "collection_not_found")
