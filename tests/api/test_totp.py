"""The second factor from enrolment to the lost device."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pyotp
import pytest
from fastapi import FastAPI

from app.core import clock
from app.core.principal import SYSTEM, Role
from app.db.models import User
from app.db.repositories.accounts import AccountRepository
from tests.api.test_auth import bearer, code_of, me
from tests.fixtures.accounts import PASSWORD, Person, log_in, new_person
from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, variant


@dataclass
class Phone:
    """An authenticator app; its clock is half a minute fast, so that there is a code left after the one that enrols."""

    secret: str

    def code(self, *, steps: int = 1) -> str:
        return pyotp.TOTP(self.secret).at(clock.now() + timedelta(seconds=30 * steps))


@pytest.fixture
def visitor(service: Service) -> httpx.AsyncClient:
    return client_of(variant(service))


async def enrol(client: httpx.AsyncClient, person: Person) -> tuple[Phone, list[str]]:
    """Switch on a person's second factor."""
    enrolment = (await client.post("/auth/totp/enrol", headers=person.headers)).json()
    phone = Phone(enrolment["secret"])
    verified = await client.post(
        "/auth/totp/verify", headers=person.headers, json={"code": phone.code(steps=0)}
    )
    assert verified.status_code == 200, verified.text
    return phone, verified.json()["recovery_codes"]


async def test_enrolment_shows_what_an_app_needs(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)

    response = await visitor.post("/auth/totp/enrol", headers=person.headers)

    enrolment = response.json()
    assert enrolment["uri"].startswith("otpauth://totp/Ibid:")
    assert enrolment["secret"] in enrolment["uri"]
    assert enrolment["qr_code"].startswith("data:image/svg+xml")
    assert response.headers["cache-control"] == "no-store"
    assert (await log_in(visitor, person.email)).status_code == 200  # not switched on before a code was seen


async def test_with_a_second_factor_the_password_is_not_enough(
    service: Service, visitor: httpx.AsyncClient
) -> None:
    person = await new_person(service)
    phone, _ = await enrol(visitor, person)

    without = await log_in(visitor, person.email)
    wrong = await log_in(visitor, person.email, totp_code="000000")
    wrong_password = await log_in(visitor, person.email, "wrong", totp_code=phone.code())
    right = await log_in(visitor, person.email, totp_code=phone.code())

    assert (without.status_code, code_of(without)) == (401, "totp_required")
    assert (wrong.status_code, code_of(wrong)) == (401, "totp_wrong")
    assert (wrong_password.status_code, code_of(wrong_password)) == (401, "login_failed")
    assert right.status_code == 200


async def test_a_code_works_once(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)
    phone, _ = await enrol(visitor, person)
    code = phone.code()

    first = await log_in(visitor, person.email, totp_code=code)
    again = await log_in(visitor, person.email, totp_code=code)
    older = await log_in(visitor, person.email, totp_code=phone.code(steps=0))

    assert [response.status_code for response in (first, again, older)] == [200, 401, 401]


async def test_the_code_that_switched_it_on_is_used_up(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)
    enrolment = (await visitor.post("/auth/totp/enrol", headers=person.headers)).json()
    code = Phone(enrolment["secret"]).code()

    await visitor.post("/auth/totp/verify", headers=person.headers, json={"code": code})

    assert (await log_in(visitor, person.email, totp_code=code)).status_code == 401


async def test_switching_it_on_ends_the_logins_made_without_it(
    service: Service, visitor: httpx.AsyncClient
) -> None:
    person = await new_person(service)
    other = (await log_in(visitor, person.email)).json()

    await enrol(visitor, person)

    assert (await me(visitor, person), await me(visitor, other)) == (200, 401)


async def test_a_wrong_code_does_not_switch_it_on(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)
    early = await visitor.post("/auth/totp/verify", headers=person.headers, json={"code": "000000"})
    enrolment = (await visitor.post("/auth/totp/enrol", headers=person.headers)).json()

    far = Phone(enrolment["secret"]).code(steps=10)
    response = await visitor.post("/auth/totp/verify", headers=person.headers, json={"code": far})

    assert (early.status_code, code_of(early)) == (409, "totp_not_enrolled")
    assert (response.status_code, code_of(response)) == (403, "totp_code_refused")
    assert (await visitor.get("/auth/me", headers=person.headers)).json()["totp_enabled"] is False


async def test_it_can_not_be_replaced_while_it_is_on(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)
    await enrol(visitor, person)

    response = await visitor.post("/auth/totp/enrol", headers=person.headers)

    assert (response.status_code, code_of(response)) == (409, "totp_already_enabled")


async def test_a_recovery_code_works_once_however_it_is_written(
    service: Service, visitor: httpx.AsyncClient
) -> None:
    person = await new_person(service)
    _, codes = await enrol(visitor, person)
    assert len(set(codes)) == 10

    first = await log_in(visitor, person.email, totp_code=codes[0].upper().replace("-", " "))
    again = await log_in(visitor, person.email, totp_code=codes[0])

    assert (first.status_code, again.status_code) == (200, 401)
    shown = (await visitor.get("/auth/me", headers=bearer(first.json()))).json()
    assert (shown["totp_enabled"], shown["recovery_codes_left"]) == (True, 9)


async def test_new_recovery_codes_replace_the_old(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)
    phone, old = await enrol(visitor, person)

    response = await visitor.post(
        "/auth/totp/recovery-codes", headers=person.headers, json={"code": phone.code()}
    )

    new = response.json()["recovery_codes"]
    assert not set(new) & set(old)
    assert (await log_in(visitor, person.email, totp_code=old[1])).status_code == 401
    assert (await log_in(visitor, person.email, totp_code=new[1])).status_code == 200


async def test_switching_it_off_needs_password_and_code(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)
    _, codes = await enrol(visitor, person)

    async def disable(**body: Any) -> int:
        return (await visitor.post("/auth/totp/disable", headers=person.headers, json=body)).status_code

    assert await disable(password="wrong", code=codes[0]) == 403
    assert await disable(password=PASSWORD, code="wrong") == 403
    assert await disable(password=PASSWORD, code=codes[0]) == 204
    assert (await log_in(visitor, person.email)).status_code == 200
    assert await disable(password=PASSWORD, code=codes[1]) == 409


async def test_an_admin_helps_who_lost_the_device(service: Service, visitor: httpx.AsyncClient) -> None:
    admin = await new_person(service, Role.ADMIN)
    person = await new_person(service, organization_id=admin.organization_id)
    await enrol(visitor, person)

    response = await visitor.delete(f"/users/{person.id}/totp", headers=admin.headers)

    assert response.status_code == 204
    assert await me(visitor, person) == 401
    assert (await log_in(visitor, person.email)).status_code == 200


async def test_secrets_are_stored_encrypted_and_codes_hashed(
    service: Service, visitor: httpx.AsyncClient
) -> None:
    person = await new_person(service)
    phone, codes = await enrol(visitor, person)

    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        user = await AccountRepository(session).find(person.id)
        connection = await session.connection()
        stored = (
            await connection.exec_driver_sql(
                f"SELECT code_hash FROM recovery_codes WHERE user_id = '{person.id}'"
            )
        ).scalars()

    assert isinstance(user, User)
    assert user.totp_secret is not None
    assert phone.secret not in user.totp_secret
    assert not set(codes) & set(stored)


# --- required for admins ---


@pytest.fixture
def strict_app(service: Service) -> FastAPI:
    return variant(service, admin_totp_required=True)


async def test_an_admin_who_must_enrol_can_do_that_and_nothing_else(
    service: Service, strict_app: FastAPI
) -> None:
    person = await new_person(service, Role.ADMIN)
    async with client_of(strict_app) as client:
        tokens = (await log_in(client, person.email)).json()
        headers = bearer(tokens)
        assert tokens["totp_enrolment_required"] is True
        refused = await client.get("/documents", headers=headers)
        shown = (await client.get("/auth/me", headers=headers)).json()

        enrolment = (await client.post("/auth/totp/enrol", headers=headers)).json()
        code = Phone(enrolment["secret"]).code()
        await client.post("/auth/totp/verify", headers=headers, json={"code": code})
        allowed = await client.get("/documents", headers=headers)

    assert (refused.status_code, code_of(refused)) == (403, "totp_enrolment_required")
    assert shown["totp_enrolment_required"] is True
    assert allowed.status_code == 200


async def test_users_need_none_until_they_become_admins(service: Service, strict_app: FastAPI) -> None:
    admin = await new_person(service, Role.ADMIN, totp=True)
    person = await new_person(service, organization_id=admin.organization_id)
    async with client_of(strict_app) as client:
        before = await client.get("/documents", headers=person.headers)
        await client.patch(f"/users/{person.id}", headers=admin.headers, json={"role": "admin"})
        after = await client.get("/documents", headers=person.headers)

    assert (before.status_code, after.status_code) == (200, 403)


# --- races ---


async def test_of_twenty_logins_with_one_code_one_succeeds(service: Service) -> None:
    app = variant(service)
    person = await new_person(service)
    async with client_of(app) as client:
        phone, _ = await enrol(client, person)
        code = phone.code()
        responses = await asyncio.gather(*(log_in(client, person.email, totp_code=code) for _ in range(20)))

    statuses = [response.status_code for response in responses]
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 401, 429}


async def test_of_twenty_submissions_of_one_code_one_is_used(service: Service) -> None:
    person = await new_person(service, totp=True)

    async def submit() -> bool:
        async with service.runtime.database.unit_of_work(SYSTEM) as session:
            return await AccountRepository(session).use_step(person.id, 1000)

    assert sorted(await asyncio.gather(*(submit() for _ in range(20)))) == [False] * 19 + [True]


async def test_of_twenty_confirmations_with_one_code_one_gives_recovery_codes(service: Service) -> None:
    person = await new_person(service)
    async with client_of(variant(service)) as client:
        enrolment = (await client.post("/auth/totp/enrol", headers=person.headers)).json()
        body = {"code": Phone(enrolment["secret"]).code()}
        responses = await asyncio.gather(
            *(client.post("/auth/totp/verify", headers=person.headers, json=body) for _ in range(20))
        )

    statuses = [response.status_code for response in responses]
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 429}


async def test_of_twenty_uses_of_one_recovery_code_one_succeeds(service: Service) -> None:
    person = await new_person(service)
    async with client_of(variant(service)) as client:
        _, codes = await enrol(client, person)
        responses = await asyncio.gather(
            *(log_in(client, person.email, totp_code=codes[0]) for _ in range(20))
        )

    assert [response.status_code for response in responses].count(200) == 1
