"""Bursts: who asks too often is told so and when to come back; nobody else notices."""

import asyncio
import re
from collections import Counter
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from app.core import security
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.core.rates import Subject, rates
from app.db.repositories.api_keys import ApiKeyRepository
from tests.fixtures.accounts import PASSWORD, new_organization, new_person
from tests.fixtures.service import Service, make_settings
from tests.fixtures.variants import client_of, new_address, variant

SEARCH = {"query": "anything at all"}
FEW = "5/hour"


async def statuses(client: httpx.AsyncClient, count: int, **headers: str) -> Counter[int]:
    answers = [await client.post("/search", json=SEARCH, headers=headers) for _ in range(count)]
    return Counter(answer.status_code for answer in answers)


async def test_whoever_passes_the_limit_gets_429_with_what_to_do(service: Service) -> None:
    app = variant(service, rate_limit_search=f"{FEW} per user")
    person = await new_person(service)
    async with client_of(app, token=person.access_token) as client:
        first = await client.post("/search", json=SEARCH)
        assert (await statuses(client, 4)) == {200: 4}
        refused = await client.post("/search", json=SEARCH)

    assert first.headers["ratelimit-policy"] == '"search-user";q=5;w=3600'
    assert re.fullmatch(r'"search-user";r=4;t=\d+', first.headers["ratelimit"])
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert error["code"] == "rate_limited"
    assert error["details"] == {"limit": 5, "window_seconds": 3600, "per": "user"}
    assert error["request_id"] == refused.headers["x-request-id"]
    assert 1 <= int(refused.headers["retry-after"]) <= 3600
    assert refused.headers["ratelimit"].startswith('"search-user";r=0;t=')


async def test_of_requests_at_once_no_more_pass_than_the_limit_says(service: Service) -> None:
    app = variant(service, rate_limit_search=f"{FEW} per user")
    person = await new_person(service)
    async with client_of(app, token=person.access_token) as client:
        answers = await asyncio.gather(*(client.post("/search", json=SEARCH) for _ in range(30)))

    assert Counter(answer.status_code for answer in answers) == {200: 5, 429: 25}


async def test_one_users_burst_is_no_other_users_concern(service: Service) -> None:
    app = variant(service, rate_limit_search=f"{FEW} per user")
    home = await new_organization(service)
    busy = await new_person(service, organization_id=home)
    quiet = await new_person(service, organization_id=home)
    async with client_of(app) as client:
        assert await statuses(client, 7, **busy.headers) == {200: 5, 429: 2}
        assert await statuses(client, 1, **quiet.headers) == {200: 1}


async def test_searching_too_often_does_not_keep_from_chatting(service: Service) -> None:
    app = variant(service, rate_limit_search=f"{FEW} per user", rate_limit_chat=f"{FEW} per user")
    person = await new_person(service)
    async with client_of(app, token=person.access_token) as client:
        assert await statuses(client, 6) == {200: 5, 429: 1}
        chat = await client.post("/chat", json={"message": "hello there"})

    assert chat.status_code == 200
    assert chat.headers["ratelimit-policy"] == '"chat-user";q=5;w=3600'


async def test_a_stream_tells_what_is_left_too(service: Service) -> None:
    app = variant(service, rate_limit_chat="2/hour per user")
    person = await new_person(service)
    async with client_of(app, token=person.access_token) as client:
        answers = [
            await client.post("/chat", json={"message": "hello there", "stream": True}) for _ in range(3)
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["content-type"].startswith("text/event-stream")
    assert answers[0].headers["ratelimit"].startswith('"chat-user";r=1;')


async def test_reading_is_not_limited(service: Service) -> None:
    app = variant(service, rate_limit_ingest="1/hour", rate_limit_search="1/hour", rate_limit_chat="1/hour")
    key, _ = await service.new_key()
    async with client_of(app, token=key) as client:
        answers = [await client.get("/documents") for _ in range(5)]
        texts = [await client.post("/ingest", json={"text": f"text {n}"}) for n in range(2)]

    assert {answer.status_code for answer in answers} == {200}
    assert "ratelimit" not in answers[0].headers
    assert [answer.status_code for answer in texts] == [200, 429]


async def key_with(service: Service, rate_limit: str | None) -> str:
    key = security.new_api_key()
    organization_id = await new_organization(service)
    operator = Principal(PrincipalKind.OPERATOR, "op", organization_id, Role.ADMIN, ALL_SCOPES)
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        await ApiKeyRepository(session, operator).add(
            name="K",
            public_part=key.public,
            secret_hash=key.secret_hash,
            scopes=ALL_SCOPES,
            collection_ids=None,
            expires_at=None,
            created_by=None,
            rate_limit=rate_limit,
        )
    return str(key)


async def test_a_keys_own_limit_counts_all_it_does(service: Service) -> None:
    app = variant(service, rate_limit_search="100/hour per key")
    limited, free = await key_with(service, "3/hour"), await key_with(service, None)
    async with client_of(app, token=limited) as client:
        answers = [await client.post("/search", json=SEARCH) for _ in range(2)]
        answers.append(await client.post("/ingest", json={"text": "a text of its own"}))
        answers.append(await client.post("/chat", json={"message": "hello there"}))
    async with client_of(app, token=free) as client:
        assert await statuses(client, 5) == {200: 5}

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"own-key";q=3;w=3600, "search-key";q=100;w=3600'


async def test_a_key_is_made_with_its_limit(client: httpx.AsyncClient) -> None:
    body = {"name": "Front end", "scopes": ["chat"], "rate_limit": "10/second, 1000/hour"}
    made = await client.post("/api-keys", json=body)
    wrong = await client.post("/api-keys", json={**body, "rate_limit": "often"})

    assert made.json()["rate_limit"] == "10/second, 1000/hour"
    assert (await client.get(f"/api-keys/{made.json()['id']}")).json()["rate_limit"] == "10/second, 1000/hour"
    assert wrong.status_code == 422
    assert "no rate like 60/minute" in wrong.json()["error"]["message"]


async def logins(app: FastAPI, address: str, count: int) -> Counter[str]:
    body = {"username": "no.one@nowhere.example", "password": "wrong"}
    async with client_of(app, address=address) as client:
        answers = [await client.post("/auth/login", data=body) for _ in range(count)]
    return Counter(f"{answer.status_code} {answer.json()['error']['code']}" for answer in answers)


async def test_an_address_logs_in_only_so_often(service: Service) -> None:
    app, address = variant(service, rate_limit_login="3/hour per address"), new_address()

    assert await logins(app, address, 5) == {"401 login_failed": 3, "429 rate_limited": 2}
    assert await logins(app, new_address(), 1) == {"401 login_failed": 1}


async def test_right_logins_count_too(service: Service) -> None:
    app = variant(service, rate_limit_login="3/hour")
    person = await new_person(service)
    async with client_of(app) as client:
        answers = [
            await client.post("/auth/login", data={"username": person.email, "password": PASSWORD})
            for _ in range(4)
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]


async def test_a_forged_address_is_not_believed(service: Service) -> None:
    app = variant(service, rate_limit_search=f"{FEW} per address")
    person, peer = await new_person(service), new_address()
    answered: Counter[int] = Counter()
    async with client_of(app, address=peer, token=person.access_token) as client:
        for number in range(8):
            forged = f"198.51.100.{number}"
            answered += await statuses(
                client, 1, **{"X-Forwarded-For": forged, "Forwarded": f"for={forged}", "X-Real-IP": forged}
            )

    assert answered == {200: 5, 429: 3}


async def test_behind_a_trusted_proxy_each_client_has_an_address(service: Service) -> None:
    app = variant(service, rate_limit_search=f"{FEW} per address", trusted_proxies="192.0.2.1")
    person = await new_person(service)
    async with client_of(app, address="192.0.2.1", token=person.access_token) as client:
        busy = await statuses(client, 7, **{"X-Forwarded-For": "203.0.113.5"})
        # What a client adds by itself stands further left, and the proxy's own entry is the one that counts.
        disguised = await statuses(client, 2, **{"X-Forwarded-For": "198.51.100.77, 203.0.113.5"})
        other = await statuses(client, 2, **{"X-Forwarded-For": "203.0.113.6"})

    assert busy == {200: 5, 429: 2}
    assert disguised == {429: 2}
    assert other == {200: 2}


async def test_an_address_is_counted_before_its_credentials_are_looked_at(service: Service) -> None:
    app = variant(service, rate_limit_search="3/hour per address")
    async with client_of(app, token="ibid_000000000000_" + "a" * 43) as client:
        assert await statuses(client, 5) == {401: 3, 429: 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("off", []),
        ("60/minute", [(60, 60, "user"), (60, 60, "key"), (60, 60, "address")]),
        ("60/minute per user, 600/minute per key", [(60, 60, "user"), (600, 60, "key")]),
        ("5/10 seconds per user", [(5, 10, "user")]),
        ("10 per minute per address", [(10, 60, "address")]),
        ("1/second per key, 1000/day per key", [(1, 1, "key"), (1000, 86400, "key")]),
    ],
)
def test_a_rate_reads_as_it_is_written(text: str, expected: list[Any]) -> None:
    found = rates(text, name="chat", subjects=tuple(Subject))

    assert [(rate.amount, rate.seconds, rate.subject) for rate in found] == expected
    assert len({rate.name for rate in found}) == len(found)


@pytest.mark.parametrize(
    "text", ["60", "often", "0/minute", "-1/minute", "1/fortnight", "1/minute,", "1/minute per bot", "9" * 20]
)
def test_a_rate_that_is_none_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValidationError, match="is no rate like 60/minute"):
        make_settings(rate_limit_chat=text)


def test_a_login_can_only_be_limited_by_address() -> None:
    with pytest.raises(ValidationError, match="does not apply here; address does"):
        make_settings(rate_limit_login="5/minute per user")


def test_the_limits_are_on_by_default() -> None:
    settings = type(make_settings()).model_validate({})

    assert all(settings.rates.values())
