"""The ledger: every model call in it, whatever became of the answer, and who may read it."""

import asyncio
import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.core.principal import ALL_SCOPES, SYSTEM, Role, Scope
from app.db.repositories.usage import release_expired
from app.services import maintenance
from app.services import usage as services_usage
from tests.fixtures.accounts import new_organization, new_person
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import NewClient, Service
from tests.fixtures.workers import with_settings

FACTS = "Eternalgy EMS is an energy management system for factories. The warranty of the EMS is five years."
QUESTION = "What is the warranty of the Eternalgy EMS?"
PRICE = Decimal("0.000056")
"""Of 100 and 10 tokens of gpt-4.1-mini."""


async def ask(client: httpx.AsyncClient, message: str = QUESTION, **fields: Any) -> httpx.Response:
    return await client.post("/chat", json={"message": message, **fields})


async def ingest(client: httpx.AsyncClient) -> None:
    assert (await client.post("/ingest", json={"text": FACTS})).status_code == 200


async def usage(client: httpx.AsyncClient, *groups: str, **parameters: Any) -> dict[str, Any]:
    response = await client.get("/usage", params={"group_by": list(groups) or ["purpose"], **parameters})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def calls(client: httpx.AsyncClient) -> dict[str, tuple[int, int, int]]:
    """Of each purpose: calls, tokens of prompts, tokens of answers."""
    rows = (await usage(client, "purpose"))["rows"]
    return {row["purpose"]: (row["calls"], row["prompt_tokens"], row["completion_tokens"]) for row in rows}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_in_the_ledger_as_its_provider_counted_it(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, stream: bool
) -> None:
    await ingest(provider_client)
    provider.default = Reply(usage=(812, 96))

    assert (await ask(provider_client, stream=stream)).status_code == 200

    found = await usage(provider_client, "day", "model", "purpose", "bot")
    (row,) = found["rows"]
    assert (row["day"], row["model"], row["purpose"], row["bot"]) == (
        datetime.now(UTC).date().isoformat(),
        "gpt-4.1-mini",
        "answer",
        "default",
    )
    assert (row["calls"], row["prompt_tokens"], row["completion_tokens"]) == (1, 812, 96)
    assert (row["estimated_calls"], row["unpriced_calls"]) == (0, 0)
    assert Decimal(row["cost_usd"]) == Decimal("0.0004784")
    assert {name: found["total"][name] for name in ("calls", "cost_usd")} == {
        "calls": 1,
        "cost_usd": row["cost_usd"],
    }


async def test_side_calls_are_in_the_ledger_and_in_the_cost_of_the_message(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ingest(provider_client)
    await ask(provider_client, session_id="sess_side")
    provider.script = [Reply(("How long is the warranty of the Eternalgy EMS in months?",))]

    answer = (await ask(provider_client, "And in months?", session_id="sess_side")).json()

    assert await calls(provider_client) == {"answer": (2, 200, 20), "standalone_question": (1, 100, 10)}
    assert answer["usage"] == {
        "prompt_tokens": 200,
        "completion_tokens": 20,
        "cost_usd": str(2 * PRICE),
        "estimated": False,
    }
    messages = (await provider_client.get("/chat/sessions/sess_side/messages")).json()
    assert messages[-1]["usage"] == answer["usage"]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_provider_does_not_count_is_estimated_and_says_so(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, stream: bool
) -> None:
    await ingest(provider_client)
    provider.default = Reply(("Five years, which is sixty months [1].",), usage=None)

    await ask(provider_client, stream=stream, session_id="sess_est")

    message = (await provider_client.get("/chat/sessions/sess_est/messages")).json()[-1]
    sent = sum(len(turn["content"]) for turn in provider.chats[-1]["messages"])
    assert message["usage"]["estimated"] is True
    assert message["usage"]["prompt_tokens"] == pytest.approx(sent / 4, rel=0.1)
    assert message["usage"]["completion_tokens"] == pytest.approx(10, abs=1)
    assert (await usage(provider_client))["rows"][0]["estimated_calls"] == 1


async def test_a_cut_answer_is_charged_for_what_came_of_it(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ingest(provider_client)
    provider.default = Reply(("Five years of warranty",) * 8, cut_after=5, pause_seconds=0.02)

    await ask(provider_client, stream=True)

    row = (await usage(provider_client))["rows"][0]
    assert (row["calls"], row["estimated_calls"]) == (1, 1)
    assert row["completion_tokens"] > 10
    assert row["prompt_tokens"] > 100


async def test_an_answer_whose_reader_left_is_charged_too(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ingest(provider_client)
    provider.default = Reply(("word ",) * 200, pause_seconds=0.05)
    body = {"message": QUESTION, "stream": True}

    async with provider_client.stream("POST", "/chat", json=body) as response:
        async for line in response.aiter_lines():
            if "delta" in line:
                break

    async with asyncio.timeout(20):
        while not (found := await calls(provider_client)):
            await asyncio.sleep(0.05)
    assert found["answer"][0] == 1
    assert found["answer"][2] >= 1


async def test_a_provider_that_refuses_charges_nothing(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ingest(provider_client)
    provider.default = Reply(status=401)

    assert (await ask(provider_client)).status_code == 502

    assert await calls(provider_client) == {}


async def test_a_model_without_a_known_price_is_counted_in_tokens_and_named_as_unpriced(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, provider_service: Service
) -> None:
    await ingest(provider_client)
    model = provider_service.runtime.chat_model
    assert model is not None
    key, _ = await provider_service.new_key()
    async with provider_service.client(key) as other:
        from app.core.usage import ModelCall, Purpose
        from app.services import usage as ledger

        principal = await _principal(provider_service, key)
        async with ledger.account(provider_service.runtime, principal, bot_id="bot_x") as account:
            account.note(ModelCall(Purpose.TITLE, "no-such-model", 7, 3, None))

        total = (await usage(other))["total"]
    assert (total["calls"], total["prompt_tokens"], total["unpriced_calls"], total["cost_usd"]) == (
        1,
        7,
        1,
        "0",
    )


async def _principal(service: Service, key: str) -> Any:
    from app.services import auth

    return await auth.authenticate_key(service.runtime.database, key)


@pytest.mark.parametrize(("counted", "estimated"), [(37, 0), (None, 1)])
async def test_what_embedding_a_text_takes_is_in_the_ledger(
    provider_client: httpx.AsyncClient,
    provider: ScriptedProvider,
    counted: int | None,
    estimated: int,
) -> None:
    provider.embedding_usage = counted

    await ingest(provider_client)

    (row,) = (await usage(provider_client, "purpose", "model"))["rows"]
    assert (row["purpose"], row["model"], row["calls"]) == ("embedding", "scripted-embedding", 1)
    assert row["estimated_calls"] == estimated
    assert row["prompt_tokens"] == counted or (counted is None and 20 <= row["prompt_tokens"] <= 30)


async def test_extractive_answers_cost_nothing(client: httpx.AsyncClient) -> None:
    await ingest(client)

    answer = (await ask(client)).json()

    assert answer["model"] == "extractive"
    assert answer["usage"] == {
        "prompt_tokens": None,
        "completion_tokens": None,
        "cost_usd": None,
        "estimated": False,
    }
    assert (await usage(client))["total"]["calls"] == 0


async def test_users_see_their_own_admins_the_organizations_and_nobody_anothers(
    provider_service: Service, provider: ScriptedProvider
) -> None:
    home = await new_organization(provider_service)
    key, _ = await provider_service.new_key(organization_id=home)
    anna, ben, admin = [
        await new_person(provider_service, role, organization_id=home)
        for role in (Role.USER, Role.USER, Role.ADMIN)
    ]
    stranger = await new_person(provider_service, Role.ADMIN)
    superadmin = await new_person(provider_service, Role.SUPERADMIN)
    chat_key, _ = await provider_service.new_key(frozenset({Scope.CHAT}), organization_id=home)
    async with provider_service.client(key) as client:
        await ingest(client)
        for person, count in ((anna, 2), (ben, 1)):
            for _ in range(count):
                assert (
                    await client.post("/chat", json={"message": QUESTION}, headers=person.headers)
                ).is_success
        assert (await ask(client)).is_success

        async def seen(headers: dict[str, str], **parameters: Any) -> int:
            response = await client.get("/usage", params=parameters, headers=headers)
            assert response.status_code == 200, response.text
            total: int = response.json()["total"]["calls"]
            return total

        assert await seen(anna.headers) == 2
        assert await seen(anna.headers, caller=ben.id) == 2, "a filter opens nothing"
        assert await seen(ben.headers) == 1
        assert await seen(admin.headers) == 4
        assert await seen(admin.headers, caller=ben.id) == 1
        assert await seen({"Authorization": f"Bearer {chat_key}"}) == 0
        assert await seen(stranger.headers) == 0
        assert await seen(superadmin.headers, organization_id=home) == 4
        foreign = await client.get("/usage", params={"organization_id": home}, headers=stranger.headers)
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (404, "organization_not_found")
        by_user = (await client.get("/usage", params={"group_by": "user"}, headers=admin.headers)).json()
    assert {row["user"]: row["calls"] for row in by_user["rows"]} == {anna.id: 2, ben.id: 1, None: 1}


async def test_usage_as_a_table_for_spreadsheets(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ingest(provider_client)
    await ask(provider_client)

    response = await provider_client.get("/usage", params={"format": "csv", "group_by": ["model", "purpose"]})

    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert list(csv.DictReader(io.StringIO(response.text))) == [
        {
            "model": "gpt-4.1-mini",
            "purpose": "answer",
            "calls": "1",
            "prompt_tokens": "100",
            "completion_tokens": "10",
            "cost_usd": str(PRICE),
            "estimated_calls": "0",
            "unpriced_calls": "0",
        }
    ]


@pytest.mark.parametrize(
    "parameters",
    [
        {"from": "2026-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"},
        {"from": "2020-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"group_by": "hour"},
        {"limit": "1001"},
        {"format": "xml"},
    ],
)
async def test_a_range_or_group_that_is_none_is_refused(
    client: httpx.AsyncClient, parameters: dict[str, str]
) -> None:
    assert (await client.get("/usage", params=parameters)).status_code == 422


async def test_more_rows_than_the_limit_are_on_the_next_page(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ingest(provider_client)
    await ask(provider_client, session_id="sess_two")
    provider.script = [Reply(("How long is the warranty of the Eternalgy EMS in months?",))]
    await ask(provider_client, "And in months?", session_id="sess_two")

    first = await provider_client.get("/usage", params={"group_by": "purpose", "limit": 1})
    second = await provider_client.get(first.links["next"]["url"])

    assert [row["purpose"] for page in (first, second) for row in page.json()["rows"]] == [
        "answer",
        "standalone_question",
    ]
    assert "next" not in second.links


async def test_nothing_to_release_is_no_error(new_client: NewClient, service: Service) -> None:
    await new_client(*ALL_SCOPES)
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        assert await release_expired(session) == 0


async def test_the_ledger_is_kept_as_long_as_the_setting_says_and_says_so(
    provider_service: Service, provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ingest(provider_client)
    provider.default = Reply(usage=(812, 96))
    for _ in range(3):
        await ask(provider_client)
    ages = {"long ago": 41, "kept": 39}
    async with provider_service.runtime.database.unit_of_work(SYSTEM) as session:
        oldest = (
            await session.execute(text("SELECT id FROM usage_events ORDER BY id DESC LIMIT 3"))
        ).scalars()
        await session.execute(text("SET LOCAL ROLE NONE"))
        for event_id, days in zip(sorted(oldest), ages.values(), strict=False):
            await session.execute(
                text(
                    "UPDATE usage_events SET created_at = now() - make_interval(days => :days) WHERE id = :id"
                ),
                {"days": days, "id": event_id},
            )
    begin = (datetime.now(UTC) - timedelta(days=60)).isoformat()

    await maintenance.run_hourly(provider_service.runtime)
    before = await usage(provider_client, **{"from": begin})
    limited = with_settings(provider_service, usage_retention_days=40)
    await maintenance.run_hourly(limited)
    after = await usage(provider_client, **{"from": begin})

    assert (before["total"]["calls"], before["kept_since"]) == (3, None)
    assert after["total"]["calls"] == 2
    assert services_usage.kept_since(limited) == datetime.now(UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    ) - timedelta(days=40)
    shortest = with_settings(provider_service, usage_retention_days=1)
    assert datetime.now(UTC) - (services_usage.kept_since(shortest) or datetime.now(UTC)) >= timedelta(
        days=32
    )
