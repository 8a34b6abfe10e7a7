"""Admins manage the users of their organization, and can't lock themselves or the superadmin out."""

import asyncio
from typing import Any

import httpx
import pytest

from app.core.principal import ALL_SCOPES, SYSTEM, Role, Scope
from app.db.repositories.users import UserRepository
from app.services import first_run
from tests.api.test_auth import bearer, code_of, me
from tests.fixtures.accounts import PASSWORD, Person, log_in, new_organization, new_person
from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, variant


@pytest.fixture
def visitor(service: Service) -> httpx.AsyncClient:
    return client_of(variant(service))


@pytest.fixture
async def admin(service: Service) -> Person:
    return await new_person(service, Role.ADMIN)


async def change(client: httpx.AsyncClient, by: Person, whom: Person, **changes: Any) -> httpx.Response:
    return await client.patch(f"/users/{whom.id}", headers=by.headers, json=changes)


async def test_a_user_made_without_a_password_sets_one_by_a_link_that_works_once(
    visitor: httpx.AsyncClient, admin: Person
) -> None:
    made = await visitor.post("/users", headers=admin.headers, json={"email": "New.User@Example.com"})
    token = made.json()["password_token"]["token"]
    reset = {"token": token, "new_password": "a password of my own"}

    assert (made.status_code, made.json()["email"], made.json()["role"]) == (
        201,
        "new.user@example.com",
        "user",
    )
    assert (await log_in(visitor, "new.user@example.com", "")).status_code == 401
    assert (await visitor.post("/auth/password-reset", json=reset)).status_code == 204
    assert (await log_in(visitor, "new.user@example.com", "a password of my own")).status_code == 200
    again = await visitor.post("/auth/password-reset", json=reset | {"new_password": "another password"})
    assert (again.status_code, code_of(again)) == (422, "invalid_one_time_token")
    shown = await visitor.get(f"/users/{made.json()['id']}", headers=admin.headers)
    assert shown.json() == {key: value for key, value in made.json().items() if key != "password_token"}
    assert "hash" not in shown.text


async def test_a_user_made_with_a_password_logs_in_with_it(visitor: httpx.AsyncClient, admin: Person) -> None:
    body = {"email": "with@password.example", "password": PASSWORD, "name": "W", "role": "admin"}

    made = await visitor.post("/users", headers=admin.headers, json=body)

    assert (made.json()["password_token"], made.json()["role"]) == (None, "admin")
    assert (await log_in(visitor, "with@password.example")).status_code == 200


async def test_an_address_is_taken_in_every_organization_and_any_case(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    elsewhere = await new_person(service)

    response = await visitor.post("/users", headers=admin.headers, json={"email": elsewhere.email.upper()})

    assert (response.status_code, code_of(response)) == (409, "email_taken")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "no address"},
        {"email": "a@b"},
        {"email": "a\0@example.com"},
        {"email": "@example.com"},
        {"email": "x" * 400 + "@example.com"},
        {"email": "a@example.com", "role": "root"},
        {"email": "a@example.com", "password": "short"},
        {"email": "a@example.com", "organization_id": "org_1"},
    ],
)
async def test_a_user_that_is_not_valid_is_refused(
    visitor: httpx.AsyncClient, admin: Person, body: dict[str, Any]
) -> None:
    response = await visitor.post("/users", headers=admin.headers, json=body)

    assert (response.status_code, code_of(response)) == (422, "validation_error")


async def test_the_list_is_paged_and_searched(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    people = [await new_person(service, organization_id=admin.organization_id) for _ in range(4)]
    ids = [person.id for person in [admin, *people]][::-1]

    seen: list[str] = []
    url: str | None = "/users?limit=2"
    while url:
        response = await visitor.get(url, headers=admin.headers)
        seen += [user["id"] for user in response.json()]
        link = response.headers.get("link")
        url = link[1 : link.index(">")] if link else None

    assert seen == ids
    found = await visitor.get("/users", headers=admin.headers, params={"email": people[1].email.upper()})
    assert [user["id"] for user in found.json()] == [people[1].id]
    assert (await visitor.get("/users?email=%25", headers=admin.headers)).json() == []


async def test_a_role_counts_on_the_next_request(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    person = await new_person(service, organization_id=admin.organization_id)

    async def lists_users() -> int:
        return (await visitor.get("/users", headers=person.headers)).status_code

    statuses = [await lists_users()]
    await change(visitor, admin, person, role="admin")
    statuses.append(await lists_users())
    await change(visitor, admin, person, role="user")
    statuses.append(await lists_users())

    assert statuses == [403, 200, 403]


async def test_a_deactivated_user_is_out_at_once_and_old_tokens_do_not_come_back(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    person = await new_person(service, organization_id=admin.organization_id)

    response = await change(visitor, admin, person, is_active=False)

    assert response.json()["is_active"] is False
    assert await me(visitor, person) == 401
    assert (await log_in(visitor, person.email)).status_code == 401
    refresh = {"refresh_token": person.refresh_token}
    assert (await visitor.post("/auth/refresh", json=refresh)).status_code == 401
    await change(visitor, admin, person, is_active=True)
    assert await me(visitor, person) == 401
    assert (await log_in(visitor, person.email)).status_code == 200


async def test_a_deleted_user_is_gone_with_their_conversations(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    person = await new_person(service, organization_id=admin.organization_id)
    await visitor.post("/chat", headers=person.headers, json={"message": "Hello?", "session_id": "mine"})

    response = await visitor.delete(f"/users/{person.id}", headers=admin.headers)

    assert response.status_code == 204
    assert await me(visitor, person) == 401
    assert (await log_in(visitor, person.email)).status_code == 401
    assert (await visitor.get(f"/users/{person.id}", headers=admin.headers)).status_code == 404
    reused = await visitor.post("/chat", headers=admin.headers, json={"message": "Hi", "session_id": "mine"})
    assert reused.status_code == 200


async def test_a_reset_by_an_admin_ends_all_logins(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    person = await new_person(service, organization_id=admin.organization_id)
    path = f"/users/{person.id}/password-reset"
    first, second = [(await visitor.post(path, headers=admin.headers)).json()["token"] for _ in range(2)]
    assert await me(visitor, person) == 200  # a link that nobody follows changes nothing

    reset = await visitor.post("/auth/password-reset", json={"token": first, "new_password": "x" * 12})
    unused = await visitor.post("/auth/password-reset", json={"token": second, "new_password": "y" * 12})

    assert (reset.status_code, unused.status_code) == (204, 422)
    assert await me(visitor, person) == 401
    assert (await log_in(visitor, person.email, "x" * 12)).status_code == 200


# --- who may do what to whom ---


async def test_the_last_admin_stays(visitor: httpx.AsyncClient, admin: Person) -> None:
    for response in (
        await change(visitor, admin, admin, role="user"),
        await change(visitor, admin, admin, is_active=False),
        await visitor.delete(f"/users/{admin.id}", headers=admin.headers),
    ):
        assert (response.status_code, code_of(response)) == (409, "last_admin")


async def test_an_admin_who_is_not_the_last_may_go(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    other = await new_person(service, Role.ADMIN, organization_id=admin.organization_id)

    assert (await change(visitor, admin, admin, role="user")).status_code == 200
    assert (await change(visitor, other, other, role="user")).status_code == 409


async def test_the_last_superadmin_stays(visitor: httpx.AsyncClient, service: Service) -> None:
    async with client_of(variant(service)) as client:
        first = (await log_in(client, "admin@example.com", "a-test-password")).json()
    others = [await new_person(service, Role.SUPERADMIN) for _ in range(2)]
    mine = (await visitor.get("/auth/me", headers=bearer(first))).json()["id"]
    await _deactivate_superadmins_but(service, mine)

    for changes in ({"role": "admin"}, {"role": "user"}, {"is_active": False}):
        response = await visitor.patch(f"/users/{mine}", headers=bearer(first), json=changes)
        assert (response.status_code, code_of(response)) == (409, "last_superadmin")
    deleted = await visitor.delete(f"/users/{mine}", headers=bearer(first))
    assert (deleted.status_code, code_of(deleted)) == (409, "last_superadmin")
    assert [await me(visitor, other) for other in others] == [401, 401]


async def _deactivate_superadmins_but(service: Service, user_id: str) -> None:
    operator = await first_run.operator(service.runtime.database)
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        connection = await session.connection()
        await connection.exec_driver_sql(
            "UPDATE users SET is_active = false WHERE role = 'superadmin' AND id <> $1", (user_id,)
        )
        assert await UserRepository(session, operator).count_other_superadmins(user_id) == 0


async def test_an_admin_can_not_touch_or_make_a_superadmin(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    superadmin = await new_person(service, Role.SUPERADMIN, organization_id=admin.organization_id)
    path = f"/users/{superadmin.id}"

    for response in (
        await change(visitor, admin, superadmin, role="user"),
        await change(visitor, admin, superadmin, name="Renamed"),
        await change(visitor, admin, admin, role="superadmin"),
        await visitor.delete(path, headers=admin.headers),
        await visitor.delete(f"{path}/totp", headers=admin.headers),
        await visitor.post(f"{path}/password-reset", headers=admin.headers),
        await visitor.post(
            "/users", headers=admin.headers, json={"email": "a@b.example", "role": "superadmin"}
        ),
    ):
        assert (response.status_code, code_of(response)) == (403, "beyond_own_rights")
    assert (await change(visitor, superadmin, admin, role="superadmin")).status_code == 200


async def test_a_key_reaches_no_rights_that_it_lacks_by_way_of_people(service: Service) -> None:
    organization_id = await new_organization(service)
    admin = await new_person(service, Role.ADMIN, organization_id=organization_id)
    person = await new_person(service, organization_id=organization_id)
    manage, _ = await service.new_key(frozenset({Scope.MANAGE}), organization_id=organization_id)
    every, _ = await service.new_key(ALL_SCOPES, organization_id=organization_id)

    async with service.client(manage) as limited, service.client(every) as full:
        for response in (
            await limited.post("/users", json={"email": "k@b.example", "role": "admin"}),
            await limited.patch(f"/users/{person.id}", json={"role": "admin"}),
            await limited.post(f"/users/{admin.id}/password-reset"),
            await full.patch(f"/users/{person.id}", json={"role": "superadmin"}),
        ):
            assert (response.status_code, code_of(response)) == (403, "beyond_own_rights")
        assert (await limited.patch(f"/users/{person.id}", json={"name": "N"})).status_code == 200
        assert (await full.patch(f"/users/{person.id}", json={"role": "admin"})).status_code == 200


async def test_who_is_no_admin_any_more_leaves_no_open_doors(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    other = await new_person(service, Role.ADMIN, organization_id=admin.organization_id)
    person = await new_person(service, organization_id=admin.organization_id)
    link = await visitor.post(f"/users/{person.id}/password-reset", headers=other.headers)

    await change(visitor, admin, other, role="user")

    body = {"token": link.json()["token"], "new_password": "taken over now"}
    assert (await visitor.post("/auth/password-reset", json=body)).status_code == 422


@pytest.mark.parametrize("round_number", range(5))
async def test_of_two_admins_who_demote_each_other_one_stays(service: Service, round_number: int) -> None:
    organization_id = await new_organization(service)
    first, second = [await new_person(service, Role.ADMIN, organization_id=organization_id) for _ in range(2)]
    async with client_of(variant(service)) as client:
        responses = await asyncio.gather(
            change(client, first, second, role="user"), change(client, second, first, role="user")
        )
        left = [
            (await client.get("/users", headers=person.headers)).status_code for person in (first, second)
        ]

    assert min(response.status_code for response in responses) == 200
    assert sorted(left) == [200, 403], round_number


_WAITING = (
    "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database"
    " WHERE d.datname = current_database() AND locktype = 'advisory' AND NOT granted"
)


async def test_who_was_demoted_meanwhile_demotes_nobody(service: Service) -> None:
    """The rights of a request are looked at again when its turn comes, not only when it arrived."""
    organization_id = await new_organization(service)
    first, second, third = [
        await new_person(service, Role.ADMIN, organization_id=organization_id) for _ in range(3)
    ]
    operator = await first_run.operator(service.runtime.database)
    async with client_of(variant(service)) as client:
        async with service.runtime.database.unit_of_work(SYSTEM) as session:
            await UserRepository(session, operator).lock_roles()
            waiting = asyncio.create_task(change(client, second, third, role="user"))
            connection = await session.connection()
            while not (await connection.exec_driver_sql(_WAITING)).scalar():
                await asyncio.sleep(0.05)  # until it has arrived, as an admin's
            await connection.exec_driver_sql("UPDATE users SET role = 'user' WHERE id = $1", (second.id,))
        response = await waiting

    assert (response.status_code, code_of(response)) == (403, "beyond_own_rights")
    assert first.organization_id == third.organization_id
