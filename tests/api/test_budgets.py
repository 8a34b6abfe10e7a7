"""Budgets hold: before a model is called, on every replica, under concurrency, and when a process dies."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.core.principal import SYSTEM, Role
from app.db.repositories.usage import UsageRepository, release_expired
from app.services import auth, usage
from tests.fixtures.accounts import new_organization, new_person
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service

FACTS = "Eternalgy EMS is an energy management system for factories. The warranty of the EMS is five years."
QUESTION = "What is the warranty of the Eternalgy EMS?"


async def ingest(client: httpx.AsyncClient) -> None:
    assert (await client.post("/ingest", json={"text": FACTS})).status_code == 200


async def ask(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post("/chat", json={"message": QUESTION, **fields})


async def set_budget(client: httpx.AsyncClient, **fields: Any) -> str:
    body = {"subject": "organization", "period": "day", **fields}
    response = await client.post("/budgets", json=body)
    assert response.status_code == 201, response.text
    budget_id: str = response.json()["id"]
    return budget_id


async def standing(client: httpx.AsyncClient, budget_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"/budgets/{budget_id}")).json()
    return found


async def held(service: Service, budget_id: str) -> int:
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        count = await session.scalar(
            text("SELECT count(*) FROM budget_reservations WHERE budget_id = :id"), {"id": budget_id}
        )
        return count or 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_spent_budget_is_402_before_any_model_call(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, provider_service: Service, stream: bool
) -> None:
    await ingest(provider_client)
    budget_id = await set_budget(provider_client, max_tokens=150)
    assert [(await ask(provider_client, stream=stream)).status_code for _ in range(2)] == [200, 200]

    response = await ask(provider_client, stream=stream, session_id="sess_spent")

    assert response.status_code == 402
    error = response.json()["error"]
    assert error["code"] == "budget_spent"
    assert error["details"] == {
        "budget_id": budget_id,
        "subject": "organization",
        "subject_id": None,
        "period": "day",
        "max_tokens": 150,
        "spent_tokens": 220,
        "max_cost_usd": None,
        "spent_usd": "0.000112",
        "resets_at": error["details"]["resets_at"],
    }
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert datetime.fromisoformat(error["details"]["resets_at"]).date() == tomorrow
    assert 0 < int(response.headers["retry-after"]) <= 86_400
    assert len(provider.chats) == 2
    assert await held(provider_service, budget_id) == 0
    message = (await provider_client.get("/chat/sessions/sess_spent/messages")).json()[-1]
    assert (message["status"], message["finish_reason"]) == ("failed", "budget_spent")


async def test_money_is_limited_as_tokens_are_and_by_the_month(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ingest(provider_client)
    await set_budget(provider_client, period="month", max_cost_usd="0.0001")

    statuses = [(await ask(provider_client)).status_code for _ in range(3)]

    assert statuses == [200, 200, 402]
    response = await ask(provider_client)
    assert response.json()["error"]["details"]["period"] == "month"


async def test_a_budget_counts_what_its_period_has_seen_before_it(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ingest(provider_client)
    await ask(provider_client)

    budget_id = await set_budget(provider_client, max_tokens=100)

    assert (await standing(provider_client, budget_id))["spending"][0]["spent_tokens"] == 110
    assert (await ask(provider_client)).status_code == 402


async def test_a_change_holds_at_once(provider_client: httpx.AsyncClient, provider: ScriptedProvider) -> None:
    await ingest(provider_client)
    assert (await ask(provider_client)).status_code == 200
    budget_id = await set_budget(provider_client, max_tokens=1)
    async with asyncio.timeout(20):
        while (await ask(provider_client)).status_code != 402:
            await asyncio.sleep(0.02)

    changed = await provider_client.patch(f"/budgets/{budget_id}", json={"max_tokens": 10_000})
    assert (await ask(provider_client)).status_code == 200
    await provider_client.patch(f"/budgets/{budget_id}", json={"max_tokens": 0})
    assert (await ask(provider_client)).status_code == 402
    await provider_client.delete(f"/budgets/{budget_id}")

    assert changed.json()["max_tokens"] == 10_000
    assert (await ask(provider_client)).status_code == 200
    assert (await provider_client.get(f"/budgets/{budget_id}")).status_code == 404


async def test_each_user_has_a_budget_of_their_own_unless_one_is_named(
    provider_service: Service, provider: ScriptedProvider
) -> None:
    home = await new_organization(provider_service)
    key, _ = await provider_service.new_key(organization_id=home)
    anna, ben, rich = [await new_person(provider_service, organization_id=home) for _ in range(3)]
    async with provider_service.client(key) as client:
        await ingest(client)
        await set_budget(client, subject="user", max_tokens=100)
        await set_budget(client, subject="user", subject_id=rich.id, max_tokens=100_000)

        async def statuses(headers: dict[str, str]) -> list[int]:
            body = {"message": QUESTION}
            return [(await client.post("/chat", json=body, headers=headers)).status_code for _ in range(2)]

        assert await statuses(anna.headers) == [200, 402]
        assert await statuses(ben.headers) == [200, 402]
        assert await statuses(rich.headers) == [200, 200]
        assert await statuses({}) == [200, 200], "a key is no user"


@pytest.mark.parametrize("subject", ["key", "bot"])
async def test_a_key_and_a_bot_have_budgets(
    provider_service: Service, provider: ScriptedProvider, subject: str
) -> None:
    key, home = await provider_service.new_key()
    other, _ = await provider_service.new_key(organization_id=home)
    async with provider_service.client(key) as client, provider_service.client(other) as second:
        await ingest(client)
        principal = await auth.authenticate_key(provider_service.runtime.database, key)
        subject_id = principal.id if subject == "key" else "default"
        await set_budget(client, subject=subject, subject_id=subject_id, max_tokens=100)

        assert [(await ask(client)).status_code for _ in range(2)] == [200, 402]
        assert (await ask(second)).status_code == (200 if subject == "key" else 402)


async def test_a_ceiling_is_the_superadmins_alone(
    provider_service: Service, provider: ScriptedProvider
) -> None:
    home = await new_organization(provider_service)
    admin = await new_person(provider_service, Role.ADMIN, organization_id=home)
    superadmin = await new_person(provider_service, Role.SUPERADMIN)
    acting = {**superadmin.headers, "X-Organization-ID": home}
    body = {"subject": "organization", "period": "day", "max_tokens": 1, "ceiling": True}
    async with provider_service.client(None) as client:
        refused = await client.post("/budgets", json=body, headers=admin.headers)
        made = (await client.post("/budgets", json=body, headers=acting)).json()
        path = f"/budgets/{made['id']}"
        seen = await client.get(path, headers=admin.headers)
        changed = await client.patch(path, json={"max_tokens": 10**9}, headers=admin.headers)
        deleted = await client.delete(path, headers=admin.headers)
        own = await client.post("/budgets", json={**body, "ceiling": False}, headers=admin.headers)
        lifted = await client.delete(path, headers=acting)

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "superadmin_required")
    assert (seen.status_code, seen.json()["ceiling"]) == (200, True)
    assert (changed.status_code, deleted.status_code, own.status_code, lifted.status_code) == (
        403,
        403,
        201,
        204,
    )


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"subject": "user", "period": "day"}, 422, "validation_error"),
        ({"subject": "user", "period": "week", "max_tokens": 1}, 422, "validation_error"),
        ({"subject": "user", "period": "day", "max_tokens": -1}, 422, "validation_error"),
        ({"subject": "user", "period": "day", "max_cost_usd": "NaN"}, 422, "validation_error"),
        (
            {"subject": "user", "subject_id": "user_x", "period": "day", "max_tokens": 1},
            404,
            "user_not_found",
        ),
        (
            {"subject": "key", "subject_id": "key_x", "period": "day", "max_tokens": 1},
            404,
            "api_key_not_found",
        ),
        ({"subject": "bot", "subject_id": "bot_x", "period": "day", "max_tokens": 1}, 404, "bot_not_found"),
        (
            {"subject": "organization", "subject_id": "org_x", "period": "day", "max_tokens": 1},
            422,
            "invalid",
        ),
        ({"subject": "organization", "period": "day", "max_tokens": 7}, 409, "budget_exists"),
    ],
)
async def test_a_budget_that_can_not_be_says_why(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, code: str
) -> None:
    await set_budget(client, max_tokens=5)

    response = await client.post("/budgets", json=body)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_from_eighty_percent_on_it_is_warned_of(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ingest(provider_client)
    budget_id = await set_budget(provider_client, max_tokens=130)

    async def warnings() -> list[tuple[str, str]]:
        found = (await provider_client.get("/usage")).json()["warnings"]
        return [(warning["budget_id"], warning["state"]) for warning in found]

    assert await warnings() == []
    await ask(provider_client)
    assert await warnings() == [(budget_id, "warning")]
    assert (await standing(provider_client, budget_id))["state"] == "warning"
    await ask(provider_client)
    assert await warnings() == [(budget_id, "spent")]


async def test_a_yesterdays_spending_is_none_of_todays(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, provider_service: Service
) -> None:
    await ingest(provider_client)
    budget_id = await set_budget(provider_client, max_tokens=100)
    await ask(provider_client)
    assert (await ask(provider_client)).status_code == 402
    async with provider_service.runtime.database.unit_of_work(SYSTEM) as session:
        await session.execute(
            text("UPDATE budget_spending SET period_start = period_start - 1 WHERE budget_id = :id"),
            {"id": budget_id},
        )

    assert (await ask(provider_client)).status_code == 200
    assert (await standing(provider_client, budget_id))["spending"][0]["spent_tokens"] == 110


async def test_a_reservation_of_a_process_that_died_ends_with_its_lease(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, provider_service: Service
) -> None:
    await ingest(provider_client)
    budget_id = await set_budget(provider_client, max_tokens=1000)
    runtime = provider_service.runtime
    key = provider_client.headers["Authorization"].removeprefix("Bearer ")
    principal = await auth.authenticate_key(runtime.database, key)
    dead = usage.ledger_of(runtime, principal, message_id="msg_dead")
    await dead.admit("gpt-4.1-mini", prompt_tokens=500, completion_tokens=500)

    busy = await ask(provider_client)
    assert (busy.status_code, busy.json()["error"]["code"]) == (429, "budget_reserved")
    assert busy.headers["retry-after"] == "1"
    assert provider.chats == []

    async with runtime.database.unit_of_work(SYSTEM) as session:
        assert await release_expired(session) == 0, "its lease runs"
        await session.execute(
            text("UPDATE budget_reservations SET expires_at = now() - interval '1 s' WHERE id = 'msg_dead'")
        )
    async with runtime.database.unit_of_work(SYSTEM) as session:
        assert await release_expired(session) == 1
    assert (await ask(provider_client)).status_code == 200
    assert (await standing(provider_client, budget_id))["spending"][0]["reserved_tokens"] == 0


async def test_a_failed_answer_gives_back_what_it_held(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, provider_service: Service
) -> None:
    await ingest(provider_client)
    budget_id = await set_budget(provider_client, max_tokens=10_000)
    provider.script = [Reply(status=401), Reply(("One", " two", " three"), cut_after=1, pause_seconds=0.05)]

    assert (await ask(provider_client)).status_code == 502
    await ask(provider_client, stream=True)

    (taken,) = (await standing(provider_client, budget_id))["spending"]
    assert (taken["reserved_tokens"], Decimal(taken["reserved_usd"])) == (0, Decimal(0))
    assert taken["spent_tokens"] > 100, "the cut one, by an estimate"
    assert await held(provider_service, budget_id) == 0


async def test_without_a_budget_no_statement_asks_for_one(
    provider_client: httpx.AsyncClient,
    provider: ScriptedProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await ingest(provider_client)
    await ask(provider_client)
    asked: list[str] = []

    async def counted(*_: Any, **__: Any) -> Any:
        asked.append("statement")
        return frozenset()

    for name in ("budgeted", "reserve", "settle"):
        monkeypatch.setattr(UsageRepository, name, counted)

    assert (await ask(provider_client)).status_code == 200
    assert asked == []


async def test_two_hundred_at_once_overshoot_a_budget_for_fifty_by_no_more_than_one_request(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, provider_service: Service
) -> None:
    """Whoever finds all of it reserved comes again, as clients do with a 429, until it is spent."""
    await ingest(provider_client)
    dice = random.Random(7)
    smallest, dearest = (250, 500), (500, 1000)
    provider.answer = lambda _: Reply(
        usage=(dice.randint(smallest[0], dearest[0]), dice.randint(smallest[1], dearest[1])),
        delay_seconds=dice.random() / 20,
    )
    limit = 50 * 1125
    budget_id = await set_budget(provider_client, max_tokens=limit)

    async def insist() -> httpx.Response:
        while True:
            response = await ask(provider_client)
            if response.status_code != 429:
                return response
            assert response.json()["error"]["code"] == "budget_reserved"
            await asyncio.sleep(0.5 + dice.random())

    responses = await asyncio.gather(*(insist() for _ in range(200)))

    answered = [response for response in responses if response.status_code == 200]
    refused = [response for response in responses if response.status_code == 402]
    assert len(answered) + len(refused) == 200
    spent = sum(map(sum, provider.charged))
    assert limit <= spent < limit + sum(dearest)
    assert len(answered) == len(provider.chats) == len(provider.charged)
    total = (await provider_client.get("/usage")).json()["total"]
    assert (total["prompt_tokens"], total["completion_tokens"], total["estimated_calls"]) == (
        *map(sum, zip(*provider.charged, strict=True)),
        0,
    )
    assert sum(sum(list(r.json()["usage"].values())[:2]) for r in answered) == spent
    (taken,) = (await standing(provider_client, budget_id))["spending"]
    assert (taken["spent_tokens"], taken["reserved_tokens"]) == (spent, 0)
    assert await held(provider_service, budget_id) == 0
