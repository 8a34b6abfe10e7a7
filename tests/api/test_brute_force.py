"""Guessing at passwords: ten guesses in fifteen minutes are looked at, however they are spread and disguised."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from app.core.principal import SYSTEM
from app.db.repositories.guesses import GuessRepository
from app.services import guesses
from tests.api.test_auth import bearer, code_of
from tests.fixtures.accounts import PASSWORD, log_in, new_person
from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, new_address, variant

LIMIT = 10


async def attack(
    app: FastAPI, email: str, *, guesses: int, at_once: int, address: str | None, forged: bool = False
) -> Counter[int]:
    """How the guesses were answered: from one address, or each from another; with forged headers or not."""
    room = asyncio.Semaphore(at_once)

    async def guess(number: int) -> int:
        headers = {"X-Forwarded-For": f"198.51.{number // 250}.{number % 250}"} if forged else {}
        async with room, client_of(app, address=address) as client:
            body = {"username": email, "password": f"guess {number}"}
            response = await client.post("/auth/login", data=body, headers=headers)
            if response.status_code == 429:
                assert code_of(response) == "too_many_attempts"
                assert 1 <= int(response.headers["retry-after"]) <= 900
            return response.status_code

    return Counter(await asyncio.gather(*(guess(number) for number in range(guesses))))


async def assert_holds(service: Service, *, guesses: int, at_once: int) -> None:
    app = variant(service)
    for address in (new_address(), None):
        person = await new_person(service)
        answered = await attack(
            app, person.email, guesses=guesses, at_once=at_once, address=address, forged=True
        )
        assert answered == {401: LIMIT, 429: guesses - LIMIT}
        async with client_of(app, address=address) as client:
            assert (await log_in(client, person.email)).status_code == 429  # nor is the right one looked at


async def test_of_sixty_guesses_ten_are_verified(service: Service) -> None:
    await assert_holds(service, guesses=60, at_once=50)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_of_a_thousand_guesses_ten_are_verified(service: Service) -> None:
    await assert_holds(service, guesses=1000, at_once=50)


async def test_an_account_that_does_not_exist_is_limited_alike(service: Service) -> None:
    answered = await attack(
        variant(service), "no.one@nowhere.example", guesses=14, at_once=1, address=new_address()
    )

    assert answered == {401: LIMIT, 429: 4}


async def test_over_a_real_socket_a_forged_header_changes_nothing(service: Service) -> None:
    person = await new_person(service)
    async with service.client(None) as client:
        statuses = [
            (
                await client.post(
                    "/auth/login",
                    data={"username": person.email, "password": "wrong"},
                    headers={
                        "X-Forwarded-For": f"198.51.100.{number}",
                        "Forwarded": f"for=198.51.100.{number}",
                    },
                )
            ).status_code
            for number in range(12)
        ]

    assert statuses == [401] * LIMIT + [429] * 2


async def test_strangers_do_not_lock_the_owner_out(service: Service) -> None:
    """Where the owner was logged in from lately, only what comes from there counts."""
    person, home, app = await new_person(service), new_address(), variant(service)
    async with client_of(app, address=home) as client:
        await log_in(client, person.email)
        await attack(app, person.email, guesses=30, at_once=10, address=None)
        assert (await log_in(client, person.email)).status_code == 200
        answered = await attack(app, person.email, guesses=14, at_once=1, address=home)

    assert answered == {401: LIMIT, 429: 4}


async def test_right_passwords_do_not_count(service: Service) -> None:
    person, app = await new_person(service), variant(service)
    async with client_of(app) as client:
        for _ in range(2 * LIMIT):
            assert (await log_in(client, person.email)).status_code == 200


async def test_a_right_password_does_not_forgive_the_wrong_ones(service: Service) -> None:
    person, app = await new_person(service), variant(service)
    async with client_of(app) as client:
        statuses = [
            (await log_in(client, person.email, PASSWORD if number % 5 == 4 else "wrong")).status_code
            for number in range(14)
        ]

    assert Counter(statuses) == {401: LIMIT, 200: 2, 429: 2}


async def test_codes_of_the_second_factor_are_limited_too(service: Service) -> None:
    person, app = await new_person(service, totp=True), variant(service)
    async with client_of(app) as client:
        statuses = [
            (await log_in(client, person.email, totp_code=f"{number:06}")).status_code for number in range(12)
        ]

    assert statuses == [401] * LIMIT + [429] * 2


async def test_a_stolen_access_token_guesses_no_further(service: Service) -> None:
    person, app = await new_person(service), variant(service)
    change = {"current_password": "wrong", "new_password": "a new password"}
    async with client_of(app) as client:
        statuses = [
            (await client.post("/auth/password", headers=person.headers, json=change)).status_code
            for _ in range(12)
        ]

    assert statuses == [403] * LIMIT + [429] * 2


@pytest.fixture
async def clean_guesses(service: Service) -> AsyncIterator[None]:
    yield
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        connection = await session.connection()
        await connection.exec_driver_sql("DELETE FROM guesses")


async def test_guesses_of_more_than_fifteen_minutes_ago_no_longer_count(
    service: Service, clean_guesses: None
) -> None:
    person, app, address = await new_person(service), variant(service), new_address()
    await attack(app, person.email, guesses=12, at_once=1, address=address)
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        connection = await session.connection()
        await connection.exec_driver_sql(
            "UPDATE guesses SET moments = ARRAY(SELECT m - interval '15 minutes' FROM unnest(moments) m)"
        )

    async with client_of(app, address=address) as client:
        response = await log_in(client, person.email)
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        await GuessRepository(session, window=guesses._WINDOW).purge()
        connection = await session.connection()
        left = (await connection.exec_driver_sql("SELECT count(*) FROM guesses")).scalar()

    assert (response.status_code, left) == (200, 0)


async def test_a_trusted_proxy_names_the_address(service: Service) -> None:
    person = await new_person(service)
    proxied = variant(service, trusted_proxies="10.0.0.0/8")
    async with client_of(proxied, address="10.1.2.3") as client:

        async def log_in_from(address: str, password: str) -> httpx.Response:
            body = {"username": person.email, "password": password}
            return await client.post("/auth/login", data=body, headers={"X-Forwarded-For": address})

        first = await log_in_from("192.0.2.7", PASSWORD)
        for _ in range(LIMIT):
            await log_in_from("203.0.113.66", "wrong")
        blocked = await log_in_from("203.0.113.66", PASSWORD)
        owner = await log_in_from("192.0.2.7", PASSWORD)

    assert [response.status_code for response in (first, blocked, owner)] == [200, 429, 200]
    assert bearer(owner.json())
