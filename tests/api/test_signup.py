"""Who can get an account by themselves is a setting."""

import asyncio

import httpx
import pytest

from app.core.principal import Role
from tests.api.test_auth import code_of
from tests.fixtures.accounts import PASSWORD, Person, log_in, new_person
from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, variant


@pytest.fixture
async def admin(service: Service) -> Person:
    return await new_person(service, Role.ADMIN)


async def invite(client: httpx.AsyncClient, admin: Person, email: str, role: str = "user") -> str:
    response = await client.post(
        "/users/invitations", headers=admin.headers, json={"email": email, "role": role}
    )
    assert response.status_code == 201, response.text
    token: str = response.json()["token"]
    return token


async def test_closed_is_closed_also_for_the_invited(service: Service, admin: Person) -> None:
    async with client_of(variant(service)) as client:
        plain = await client.post("/auth/signup", json={"email": "a@closed.example", "password": PASSWORD})
        invited = await client.post("/auth/signup", json={"invitation": "x", "password": PASSWORD})
        inviting = await client.post(
            "/users/invitations", headers=admin.headers, json={"email": "a@closed.example"}
        )

    for response in (plain, invited, inviting):
        assert (response.status_code, code_of(response)) == (403, "signup_closed")


async def test_by_invitation_one_joins_the_organization_that_invites(service: Service, admin: Person) -> None:
    async with client_of(variant(service, signup="invitation")) as client:
        uninvited = await client.post(
            "/auth/signup", json={"email": "no@invited.example", "password": PASSWORD}
        )
        token = await invite(client, admin, "Yes@Invited.example")
        joined = await client.post(
            "/auth/signup", json={"invitation": token, "password": PASSWORD, "name": "Y"}
        )
        again = await client.post("/auth/signup", json={"invitation": token, "password": PASSWORD})
        login = await log_in(client, "yes@invited.example")
        listed = await client.get("/users/invitations", headers=admin.headers)

    assert (uninvited.status_code, code_of(uninvited)) == (403, "invitation_required")
    assert joined.status_code == 201
    assert joined.json()["organization_id"] == admin.organization_id
    assert (joined.json()["role"], joined.json()["email"]) == ("user", "yes@invited.example")
    assert (again.status_code, code_of(again)) == (422, "invalid_one_time_token")
    assert login.status_code == 200
    assert listed.json()[0]["accepted_at"] is not None
    assert token not in listed.text


async def test_an_invitation_is_for_the_address_that_was_invited(service: Service, admin: Person) -> None:
    async with client_of(variant(service, signup="invitation")) as client:
        token = await invite(client, admin, "right@address.example")
        body = {"invitation": token, "password": PASSWORD}
        other = await client.post("/auth/signup", json=body | {"email": "wrong@address.example"})
        right = await client.post("/auth/signup", json=body | {"email": "RIGHT@address.example"})

    assert (other.status_code, right.status_code) == (422, 201)


async def test_a_withdrawn_invitation_is_worth_nothing(service: Service, admin: Person) -> None:
    async with client_of(variant(service, signup="invitation")) as client:
        token = await invite(client, admin, "w@withdrawn.example")
        (listed,) = (await client.get("/users/invitations", headers=admin.headers)).json()
        path = f"/users/invitations/{listed['id']}"
        withdrawn = await client.delete(path, headers=admin.headers)
        again = await client.delete(path, headers=admin.headers)
        response = await client.post("/auth/signup", json={"invitation": token, "password": PASSWORD})

    assert (withdrawn.status_code, again.status_code, response.status_code) == (204, 404, 422)


async def test_of_many_who_accept_one_invitation_one_gets_in(service: Service, admin: Person) -> None:
    async with client_of(variant(service, signup="invitation")) as client:
        body = {"invitation": await invite(client, admin, "many@race.example"), "password": PASSWORD}
        responses = await asyncio.gather(*(client.post("/auth/signup", json=body) for _ in range(8)))

    assert sorted(response.status_code for response in responses) == [201] + [422] * 7


async def test_an_admin_invites_no_superadmin(service: Service, admin: Person) -> None:
    async with client_of(variant(service, signup="invitation")) as client:
        response = await client.post(
            "/users/invitations", headers=admin.headers, json={"email": "s@s.example", "role": "superadmin"}
        )

    assert (response.status_code, code_of(response)) == (403, "beyond_own_rights")


async def test_open_gives_everybody_an_organization_of_their_own(service: Service) -> None:
    async with client_of(variant(service, signup="open")) as client:
        body = {"email": "o@open.example", "password": PASSWORD, "organization_name": "Open Ltd"}
        made = await client.post("/auth/signup", json=body)
        tokens = (await log_in(client, "o@open.example")).json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        organizations = (await client.get("/organizations", headers=headers)).json()
        documents = await client.post("/ingest", headers=headers, json={"text": "My own text."})
        taken = await client.post("/auth/signup", json=body)
        nameless = await client.post("/auth/signup", json={"password": PASSWORD})

    assert (made.status_code, made.json()["role"]) == (201, "admin")
    assert [organization["name"] for organization in organizations] == ["Open Ltd"]
    assert documents.status_code == 200
    assert (taken.status_code, code_of(taken)) == (409, "email_taken")
    assert (nameless.status_code, code_of(nameless)) == (422, "email_required")


async def test_signups_from_one_address_are_limited(service: Service) -> None:
    async with client_of(variant(service, signup="open")) as client:
        statuses = [
            (
                await client.post("/auth/signup", json={"email": f"{n}@limit.example", "password": PASSWORD})
            ).status_code
            for n in range(12)
        ]

    assert statuses == [201] * 10 + [429] * 2
