"""One refresh token brought many times at once: one winner, and afterwards nobody holds a living descendant."""

import asyncio

import httpx
import pytest

from tests.fixtures.accounts import Person, new_person
from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, variant


async def race(client: httpx.AsyncClient, person: Person, *, parallel: int) -> None:
    body = {"refresh_token": person.refresh_token}
    responses = await asyncio.gather(*(client.post("/auth/refresh", json=body) for _ in range(parallel)))
    winners = [response.json() for response in responses if response.status_code == 200]

    assert {response.status_code for response in responses} == {200, 401}
    assert len(winners) == 1
    descendant = await client.post("/auth/refresh", json={"refresh_token": winners[0]["refresh_token"]})
    access = await client.get("/auth/me", headers={"Authorization": f"Bearer {winners[0]['access_token']}"})
    assert (descendant.status_code, access.status_code) == (401, 401)


async def race_families(service: Service, *, families: int, parallel: int) -> None:
    async with client_of(variant(service)) as client:
        for _ in range(families):
            await race(client, await new_person(service), parallel=parallel)


async def test_five_logins_refreshed_ten_times_at_once(service: Service) -> None:
    await race_families(service, families=5, parallel=10)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_forty_logins_refreshed_twenty_five_times_at_once(service: Service) -> None:
    await race_families(service, families=40, parallel=25)


async def test_a_refresh_and_a_logout_at_once_leave_nothing_alive(service: Service) -> None:
    person = await new_person(service)
    async with client_of(variant(service)) as client:
        refreshed, _ = await asyncio.gather(
            client.post("/auth/refresh", json={"refresh_token": person.refresh_token}),
            client.post("/auth/logout", headers=person.headers),
        )
        if refreshed.status_code == 200:
            body = {"refresh_token": refreshed.json()["refresh_token"]}
            assert (await client.post("/auth/refresh", json=body)).status_code == 401
        assert (await client.get("/auth/me", headers=person.headers)).status_code == 401
