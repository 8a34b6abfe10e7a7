"""Bots as admins make them: settings, versions, lists, keys that nobody sees again."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from app.core.principal import SYSTEM, Role, Scope
from app.db.models import BotVersion
from tests.fixtures.people import Caller, Company, People
from tests.fixtures.service import Service

KEY = "sk-0123456789abcdefWXYZ"
EXTRACTIVE = {"provider": "extractive"}
COMPATIBLE = {"provider": "openai-compatible", "model": "m", "base_url": "https://llm.example.com/v1"}


async def make(caller: Caller, **fields: Any) -> dict[str, Any]:
    response = await caller.http.post("/bots", json={"name": "Help desk", **EXTRACTIVE, **fields})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


async def patch(caller: Caller, bot: dict[str, Any], **fields: Any) -> dict[str, Any]:
    response = await caller.http.patch(f"/bots/{bot['id']}", json=fields)
    assert response.status_code == 200, response.text
    changed: dict[str, Any] = response.json()
    return changed


async def test_a_bot_is_made_read_changed_and_deleted(company: Company) -> None:
    made = await make(
        company.admin,
        description="Answers about devices",
        persona="You are patient.",
        language="ms",
        retrieval={"top_k": 3, "reranker": {"candidates": 20}},
        guardrails={"in_scope": [{"description": "Devices", "examples": ["How do I reset it?"]}], "pii_kinds": ["email"]},
    )  # fmt: skip
    changed = await patch(company.admin, made, name="Devices", retrieval={"reranker": {"candidates": 25}})

    assert (made["version"], made["revision"], made["provider"], made["model"]) == (
        1,
        1,
        "extractive",
        "extractive",
    )
    assert changed["name"] == "Devices"
    assert (changed["retrieval"]["top_k"], changed["retrieval"]["reranker"]["candidates"]) == (3, 25)
    assert changed["guardrails"] == made["guardrails"]
    assert made["guardrails"]["in_scope"] == [{"description": "Devices", "examples": ["How do I reset it?"]}]
    assert (await company.admin.http.get(f"/bots/{made['id']}")).json() == changed
    assert (await company.admin.http.get("/bots")).json() == [changed]
    assert (await company.admin.http.delete(f"/bots/{made['id']}")).status_code == 204
    assert (await company.admin.http.get(f"/bots/{made['id']}")).status_code == 404


async def test_a_name_is_unique_in_its_organization_and_free_in_another(
    company: Company, people: People
) -> None:
    first = await make(company.admin)
    other = await people.person(await people.organization(), Role.ADMIN)
    second = await make(company.admin, name="Another")

    taken = await company.admin.http.post("/bots", json={"name": "HELP DESK", **EXTRACTIVE})
    renamed = await company.admin.http.patch(f"/bots/{second['id']}", json={"name": "help desk"})
    await make(other)

    assert (taken.status_code, renamed.status_code) == (409, 409)
    assert taken.json()["error"]["code"] == renamed.json()["error"]["code"] == "bot_name_taken"
    assert (await patch(company.admin, first, name="HELP DESK"))["name"] == "HELP DESK"


async def test_only_a_change_of_what_it_answers_with_is_a_version(company: Company) -> None:
    made = await make(company.admin)
    renamed = await patch(company.admin, made, name="N", description="D", visibility="restricted")
    same = await patch(company.admin, made, persona="", language="auto")
    changed = await patch(company.admin, made, persona="Kind.", note="People asked for it")

    versions = (await company.admin.http.get(f"/bots/{made['id']}/versions")).json()

    assert [bot["version"] for bot in (made, renamed, same, changed)] == [1, 1, 1, 2]
    assert [bot["revision"] for bot in (made, renamed, same, changed)] == [1, 2, 3, 4]
    assert [(version["number"], version["note"]) for version in versions] == [
        (2, "People asked for it"),
        (1, ""),
    ]
    assert versions[0]["id"] == changed["version_id"]


async def test_versions_are_compared_and_an_old_one_comes_back_as_a_new_one(company: Company) -> None:
    made = await make(company.admin, persona="First.")
    await patch(company.admin, made, persona="Second.", retrieval={"top_k": 9})
    path = f"/bots/{made['id']}/versions"

    diff = (await company.admin.http.get(f"{path}/2/diff")).json()
    back = await company.admin.http.post(f"{path}/1/restore")
    against = (await company.admin.http.get(f"{path}/3/diff", params={"against": 1})).json()

    assert diff == {
        "from_version": 1,
        "to_version": 2,
        "differences": [
            {"field": "persona", "before": "First.", "after": "Second."},
            {"field": "retrieval.top_k", "before": None, "after": 9},
        ],
    }
    assert (back.json()["persona"], back.json()["version"]) == ("First.", 3)
    assert against["differences"] == []
    third = (await company.admin.http.get(f"{path}/3")).json()
    assert (third["note"], third["settings"]["persona"]) == ("Back to version 1", "First.")
    assert (await company.admin.http.get(f"{path}/4")).json()["error"]["code"] == "bot_version_not_found"


async def test_a_change_on_top_of_an_unseen_one_is_refused(company: Company) -> None:
    made = await company.admin.http.post("/bots", json={"name": "N", **EXTRACTIVE})
    path, etag = f"/bots/{made.json()['id']}", made.headers["etag"]

    first = await company.admin.http.patch(path, json={"persona": "A"}, headers={"If-Match": etag})
    late = await company.admin.http.patch(path, json={"persona": "B"}, headers={"If-Match": etag})
    late_too = await company.admin.http.patch(path, json={"persona": "B", "revision": 1})
    gone = await company.admin.http.delete(path, headers={"If-Match": etag})
    nonsense = await company.admin.http.patch(path, json={"persona": "B"}, headers={"If-Match": "yesterday"})

    assert (first.status_code, first.headers["etag"]) == (200, '"2"')
    assert (late.status_code, late.json()["error"]["code"]) == (412, "bot_outdated")
    assert (late_too.status_code, late_too.json()["error"]["code"]) == (409, "bot_changed")
    assert (gone.status_code, nonsense.status_code) == (412, 422)
    assert (await company.admin.http.get(path)).json()["persona"] == "A"


async def test_changes_at_once_each_get_a_version(company: Company) -> None:
    made = await make(company.admin)

    await asyncio.gather(*(patch(company.admin, made, persona=f"P{n}") for n in range(8)))

    versions = (await company.admin.http.get(f"/bots/{made['id']}/versions")).json()
    assert [version["number"] for version in versions] == list(range(9, 0, -1))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"provider": "openai"}, "Name the model"),
        ({"provider": "openai", "model": "m"}, "OpenAI needs an API key"),
        ({"provider": "openai", "model": "m", "api_key": KEY, "base_url": "https://x.example"}, "openai-compatible"),
        ({"provider": "openai-compatible", "model": "m"}, "needs the address"),
        ({"provider": "ollama", "model": "m"}, "needs the address"),
        ({"provider": "anthropic", "model": "m"}, "Anthropic needs an API key"),
        ({**COMPATIBLE, "base_url": "http://127.0.0.1:11434"}, "not a public one"),
        ({**COMPATIBLE, "base_url": "http://169.254.169.254/latest"}, "not a public one"),
        ({**COMPATIBLE, "base_url": "http://0x7f.1/"}, "not written as one"),
        ({**COMPATIBLE, "base_url": "http://localhost/v1"}, "local network"),
        ({**COMPATIBLE, "base_url": "https://llm.example.com:8443/v1"}, "80 and 443"),
        ({**COMPATIBLE, "base_url": "https://u:p@llm.example.com/v1"}, "user name or password"),
        ({**COMPATIBLE, "base_url": "file:///etc/passwd"}, "http"),
        ({**COMPATIBLE, "base_url": "https://llm.example.com/v1?key=x"}, "no query"),
        ({"retrieval": {"reranker": {"kind": "http"}}}, "reranker.url"),
        ({"retrieval": {"reranker": {"kind": "http", "url": "http://10.0.0.1/rank"}}}, "not a public one"),
        ({"api_key": "with blank"}, "no blanks"),
        ({"temperature": 3}, "temperature"),
        ({"language": "Malay"}, "language"),
        ({"surprise": 1}, "surprise"),
        ({"guardrails": {"in_scope": [{"description": " "}]}}, "blank"),
        ({"collection_ids": ["col_unknown"]}, "no such collection"),
    ],
)  # fmt: skip
async def test_settings_that_can_not_work_are_refused_in_a_sentence(
    company: Company, fields: dict[str, Any], says: str
) -> None:
    response = await company.admin.http.post("/bots", json={"name": "N", **EXTRACTIVE, **fields})

    assert response.status_code in (404, 422), response.text
    assert says in response.json()["error"]["message"]
    assert (await company.admin.http.get("/bots")).json() == []


async def test_a_superadmin_may_enter_an_address_of_the_own_network_and_an_admin_keeps_it(
    company: Company, people: People
) -> None:
    superadmin = await people.person(company.id, Role.SUPERADMIN)
    inside = "http://localhost:11434"
    made = await make(superadmin, provider="ollama", model="m", base_url=inside)

    kept = await patch(company.admin, made, persona="Kind.")
    moved = await company.admin.http.patch(f"/bots/{made['id']}", json={"base_url": "http://localhost:22"})

    assert (kept["base_url"], kept["version"]) == (inside, 2)
    assert moved.status_code == 422


async def test_a_key_is_stored_encrypted_and_only_its_end_is_shown(
    service: Service, company: Company
) -> None:
    made = await make(company.admin, **COMPATIBLE, api_key=KEY)

    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        stored = await session.get(BotVersion, made["version_id"])
        assert stored is not None
        rows = (
            await session.execute(
                text(
                    "SELECT CAST(v AS text) FROM bot_versions v UNION ALL SELECT CAST(a AS text) FROM audit_log a"
                )
            )
        ).scalars()
        everything = "\n".join(rows)
    assert (made["has_api_key"], made["api_key_end"]) == (True, "WXYZ")
    assert KEY not in everything
    assert service.runtime.keyring.decrypt(stored.secrets["model"]["encrypted"]) == KEY
    shown = await company.admin.http.get(f"/bots/{made['id']}")
    assert KEY not in shown.text
    assert stored.secrets["model"]["encrypted"] not in shown.text
    short = await make(company.admin, name="Short", **COMPATIBLE, api_key="short")
    assert (short["has_api_key"], short["api_key_end"]) == (True, "")


async def test_a_key_does_not_follow_its_bot_to_another_address(company: Company) -> None:
    """Whoever may change bots could otherwise read it at a server of their own."""
    made = await make(company.admin, **COMPATIBLE, api_key=KEY)

    kept = await patch(company.admin, made, persona="Kind.", model="another")
    moved = await patch(company.admin, made, base_url="https://elsewhere.example.com/v1")
    back = (await company.admin.http.post(f"/bots/{made['id']}/versions/1/restore")).json()

    assert (kept["has_api_key"], moved["has_api_key"], back["has_api_key"]) == (True, False, True)
    assert back["base_url"] == made["base_url"]


async def test_an_old_version_comes_back_with_the_present_key_of_its_address(
    service: Service, company: Company
) -> None:
    made = await make(company.admin, **COMPATIBLE, api_key="the-old-key-that-was-revoked")
    await patch(company.admin, made, api_key=KEY, persona="Kind.")
    diff = (await company.admin.http.get(f"/bots/{made['id']}/versions/2/diff")).json()

    back = (await company.admin.http.post(f"/bots/{made['id']}/versions/1/restore")).json()

    assert (back["persona"], back["api_key_end"], back["version"]) == ("", "WXYZ", 3)
    assert {difference["field"] for difference in diff["differences"]} == {"persona", "api_key_end"}
    removed = await patch(company.admin, made, api_key=None)
    assert (removed["has_api_key"], removed["api_key_end"], removed["version"]) == (False, "", 4)


async def test_another_provider_takes_neither_address_nor_key_along(company: Company) -> None:
    made = await make(company.admin, **COMPATIBLE, api_key=KEY)

    refused = await company.admin.http.patch(f"/bots/{made['id']}", json={"provider": "anthropic"})
    changed = await patch(company.admin, made, provider="extractive")

    assert "Anthropic needs an API key" in refused.json()["error"]["message"]
    assert (changed["model"], changed["base_url"], changed["has_api_key"]) == ("extractive", None, False)


async def test_lists_are_paged(company: Company) -> None:
    made = [await make(company.admin, name=f"B{n}") for n in range(5)]
    for number in range(4):
        await patch(company.admin, made[0], persona=f"P{number}")
    seen: list[str] = []
    url = "/bots?limit=2"
    while url:
        page = await company.admin.http.get(url)
        seen += [bot["id"] for bot in page.json()]
        url = page.links.get("next", {}).get("url", "")

    versions = await company.admin.http.get(f"/bots/{made[0]['id']}/versions?limit=2")

    assert seen == [bot["id"] for bot in reversed(made)]
    assert [version["number"] for version in versions.json()] == [5, 4]
    assert "offset=2" in versions.links["next"]["url"]


async def test_statistics_count_the_answers_of_each_version(company: Company) -> None:
    await company.admin.ingest("The warranty of the gateway is five years.")
    made = await make(company.admin)
    questions = ["How long is the warranty of the gateway?", "Who won the chess tournament in Reykjavik?"]
    for question in questions:
        await ask(company.user, made["id"], question)
    await patch(company.admin, made, persona="Kind.")
    judged = await ask(company.user, made["id"], questions[0])
    await company.user.http.put(f"/chat/messages/{judged['message_id']}/feedback", json={"rating": "up"})
    await ask(company.user, None, questions[0])

    path = f"/bots/{made['id']}/statistics"
    found = (await company.admin.http.get(path)).json()
    earlier = (await company.admin.http.get(path, params={"until": "2020-01-31"})).json()

    assert (found["total"]["turns"], found["total"]["refused"], found["total"]["failed"]) == (3, 1, 0)
    assert (found["total"]["thumbs_up"], found["total"]["thumbs_down"]) == (1, 0)
    assert found["total"]["latency_p50_ms"] <= found["total"]["latency_p95_ms"]
    assert [(version["version"], version["turns"]) for version in found["versions"]] == [(1, 2), (2, 1)]
    assert sum(day["turns"] for day in found["days"]) == 3
    assert (earlier["total"]["turns"], earlier["days"], earlier["since"]) == (0, [], "2020-01-02")
    for wrong in (
        {"since": "2020-01-02", "until": "2020-01-01"},
        {"since": "2020-01-01", "until": "2022-01-01"},
    ):
        assert (await company.admin.http.get(path, params=wrong)).json()["error"]["code"] == "invalid_range"


async def ask(caller: Caller, bot_id: str | None, message: str, **fields: Any) -> dict[str, Any]:
    body = {"message": message, **fields} | ({"bot_id": bot_id} if bot_id else {})
    response = await caller.http.post("/chat", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_the_audit_log_tells_of_bots_and_their_lists(company: Company) -> None:
    collection = await company.admin.collection("C")
    made = await make(company.admin, collection_ids=[collection])
    await patch(company.admin, made, persona="Secret plans", collection_ids=None)
    await company.admin.http.put(f"/bots/{made['id']}/users/{company.user.id}")
    await company.admin.http.put(f"/bots/{made['id']}/users", json={"user_ids": []})
    await company.admin.http.delete(f"/bots/{made['id']}")

    entries = (await company.admin.http.get("/audit", params={"object_id": made["id"], "limit": 50})).json()

    assert sorted(entry["action"] for entry in entries) == [
        "bot.changed",
        "bot.created",
        "bot.deleted",
        "bot_access.granted",
        "bot_access.revoked",
        "bot_collection.added",
        "bot_collection.removed",
        "bot_version.added",
        "bot_version.added",
    ]
    assert "Secret plans" not in str(entries)


async def test_what_a_user_sees_of_a_bot_is_its_name(company: Company) -> None:
    made = await make(company.admin, description="D", persona="Never shown", **COMPATIBLE, api_key=KEY)
    seen = {"id": made["id"], "name": "Help desk", "description": "D"}

    assert (await company.user.http.get("/bots")).json() == [seen]
    assert (await company.user.http.get(f"/bots/{made['id']}")).json() == seen


async def test_a_key_that_only_chats_sees_no_more_than_a_user(company: Company, people: People) -> None:
    made = await make(company.admin, persona="Never shown")
    key = await people.key(company.id, Scope.CHAT)

    shown = (await key.http.get(f"/bots/{made['id']}")).json()

    assert shown == {"id": made["id"], "name": "Help desk", "description": ""}


async def test_the_bot_of_the_settings_is_read_by_its_name_and_changed_by_nobody(company: Company) -> None:
    told = await company.admin.http.get("/bots/default")
    shown = await company.user.http.get("/bots/default")
    changed = await company.admin.http.patch("/bots/default", json={"name": "Mine"})

    assert told.status_code == shown.status_code == 200
    assert (told.json()["id"], told.json()["provider"], told.json()["has_api_key"]) == (
        "default",
        "extractive",
        False,
    )
    assert shown.json().keys() == {"id", "name", "description"}
    assert changed.status_code == 404
