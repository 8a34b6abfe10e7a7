"""Logging in, staying logged in and logging out, as a front end does it."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from app.core import crypto
from app.core.principal import ALL_SCOPES, USER_SCOPES, Role
from tests.fixtures.accounts import PASSWORD, Person, log_in, new_person
from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, variant


def code_of(response: httpx.Response) -> str:
    code: str = response.json()["error"]["code"]
    return code


def bearer(tokens: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def me(client: httpx.AsyncClient, tokens: dict[str, Any] | Person) -> int:
    """The status that these tokens get."""
    headers = tokens.headers if isinstance(tokens, Person) else bearer(tokens)
    return (await client.get("/auth/me", headers=headers)).status_code


@pytest.fixture
def visitor(service: Service) -> httpx.AsyncClient:
    """A client without credentials, from an address of its own."""
    return client_of(variant(service))


async def test_a_login_gives_tokens_that_work(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service, Role.ADMIN)

    response = await log_in(visitor, person.email.upper())

    tokens = response.json()
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    assert set(tokens) == {
        "access_token",
        "refresh_token",
        "token_type",
        "expires_in",
        "totp_enrolment_required",
    }
    assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", 900)
    shown = (await visitor.get("/auth/me", headers=bearer(tokens))).json()
    assert shown == {
        "id": person.id,
        "organization_id": person.organization_id,
        "email": person.email,
        "name": "Test Person",
        "role": "admin",
        "scopes": sorted(ALL_SCOPES),
        "totp_enabled": False,
        "totp_enrolment_required": False,
        "recovery_codes_left": 0,
        "created_at": shown["created_at"],
    }


async def test_the_superadmin_of_the_first_start_can_log_in(service: Service) -> None:
    async with service.client(None) as client:
        response = await log_in(client, "admin@example.com", "a-test-password")
        tokens = response.json()
        listed = await client.get("/users", headers=bearer(tokens))

    assert (response.status_code, listed.status_code) == (200, 200)
    assert [user["role"] for user in listed.json()] == ["superadmin"]


async def test_a_login_may_be_json_too(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)

    response = await visitor.post("/auth/login", json={"username": person.email, "password": PASSWORD})

    assert response.status_code == 200


async def test_the_authorize_button_finds_the_login(visitor: httpx.AsyncClient) -> None:
    document = (await visitor.get("/openapi.json")).json()

    flows = document["components"]["securitySchemes"]["OAuth2PasswordBearer"]["flows"]
    assert flows["password"]["tokenUrl"] == "auth/login"
    form = document["paths"]["/auth/login"]["post"]["requestBody"]["content"]
    assert {"username", "password", "totp_code"} <= form["application/x-www-form-urlencoded"]["schema"][
        "properties"
    ].keys()
    assert {"OAuth2PasswordBearer": []} in document["paths"]["/documents"]["get"]["security"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "application/x-www-form-urlencoded"),
        (b"username=a", "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
        (b"&".join(b"a=b" for _ in range(1000)), "application/x-www-form-urlencoded"),
        (b"username=a&password=" + b"x" * 30_000, "application/x-www-form-urlencoded"),
        (b"username=a&password=b&grant_type=client_credentials", "application/x-www-form-urlencoded"),
        (b"[" * 10_000, "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'{"username": 1, "password": {}}', "application/json"),
    ],
)
async def test_a_form_that_is_none_is_refused(visitor: httpx.AsyncClient, content: bytes, kind: str) -> None:
    response = await visitor.post("/auth/login", content=content, headers={"Content-Type": kind})

    assert (response.status_code, code_of(response)) == (422, "validation_error")


@pytest.mark.parametrize("name", ["", "\0", "a\0b@example.com", "' OR 1=1 --", "\ud800", "x" * 320])
async def test_a_strange_name_is_an_unknown_one(visitor: httpx.AsyncClient, name: str) -> None:
    form = await visitor.post(
        "/auth/login",
        content=urlencode(
            {"username": name.encode("utf-8", "surrogatepass"), "password": "p", "totp_code": "\0"}
        ),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )

    assert (form.status_code, code_of(form)) == (401, "login_failed")


@pytest.mark.parametrize("password", ["wrong", "", "a\0b", "x" * 256, PASSWORD + " ", PASSWORD.upper()])
async def test_a_wrong_password_and_an_unknown_account_are_told_the_same(
    service: Service, visitor: httpx.AsyncClient, password: str
) -> None:
    person = await new_person(service)

    wrong = await log_in(visitor, person.email, password)
    unknown = await log_in(visitor, "nobody@example.com", password)

    assert wrong.status_code == unknown.status_code == 401
    assert code_of(wrong) == "login_failed"
    assert {**wrong.json()["error"], "request_id": ""} == {**unknown.json()["error"], "request_id": ""}


async def test_a_refresh_token_works_once_and_reuse_ends_the_login(
    service: Service, visitor: httpx.AsyncClient
) -> None:
    first = (await log_in(visitor, (await new_person(service)).email)).json()

    second = (await visitor.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})).json()
    assert await me(visitor, second) == 200
    reused = await visitor.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
    descendant = await visitor.post("/auth/refresh", json={"refresh_token": second["refresh_token"]})

    assert (reused.status_code, code_of(reused)) == (401, "invalid_refresh_token")
    assert (descendant.status_code, code_of(descendant)) == (401, "invalid_refresh_token")
    assert await me(visitor, second) == 401
    assert await me(visitor, first) == 401


async def test_reuse_ends_one_login_and_no_other(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)
    stolen, kept = [(await log_in(visitor, person.email)).json() for _ in range(2)]

    for _ in range(2):
        await visitor.post("/auth/refresh", json={"refresh_token": stolen["refresh_token"]})

    assert (await me(visitor, stolen), await me(visitor, kept)) == (401, 200)


async def test_a_logout_ends_this_login_at_once(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)
    here, there = [(await log_in(visitor, person.email)).json() for _ in range(2)]

    response = await visitor.post("/auth/logout", headers=bearer(here))

    assert response.status_code == 204
    assert (await me(visitor, here), await me(visitor, there)) == (401, 200)
    refreshed = await visitor.post("/auth/refresh", json={"refresh_token": here["refresh_token"]})
    assert refreshed.status_code == 401


async def test_a_logout_everywhere_ends_all_logins(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)
    here, there = [(await log_in(visitor, person.email)).json() for _ in range(2)]

    await visitor.post("/auth/logout", headers=bearer(here), json={"everywhere": True})

    assert (await me(visitor, here), await me(visitor, there)) == (401, 401)


async def test_a_new_password_ends_the_other_logins(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)
    here = (await log_in(visitor, person.email)).json()
    change = {"current_password": PASSWORD, "new_password": "another long password"}

    wrong = await visitor.post(
        "/auth/password", headers=bearer(here), json=change | {"current_password": "wrong"}
    )
    right = await visitor.post("/auth/password", headers=bearer(here), json=change)

    assert (wrong.status_code, code_of(wrong)) == (403, "wrong_password")
    assert right.status_code == 204
    assert (await me(visitor, here), await me(visitor, person)) == (200, 401)
    assert (await log_in(visitor, person.email)).status_code == 401
    assert (await log_in(visitor, person.email, "another long password")).status_code == 200


@pytest.mark.parametrize("password", ["short", "x" * 257, "nul \0 character"])
async def test_a_poor_password_is_refused_and_not_sent_back(
    service: Service, visitor: httpx.AsyncClient, password: str
) -> None:
    person = await new_person(service)
    change = {"current_password": PASSWORD, "new_password": password}

    response = await visitor.post("/auth/password", headers=person.headers, json=change)

    assert (response.status_code, code_of(response)) == (422, "validation_error")
    assert password not in response.text.replace("\\u0000", "\0")
    assert PASSWORD not in response.text


async def test_a_name_can_be_changed_and_nothing_else(service: Service, visitor: httpx.AsyncClient) -> None:
    person = await new_person(service)

    renamed = await visitor.patch("/auth/me", headers=person.headers, json={"name": "Aisyah\0 binti Ali"})
    promoted = await visitor.patch("/auth/me", headers=person.headers, json={"name": "A", "role": "admin"})

    assert renamed.json()["name"] == "Aisyah binti Ali"
    assert (promoted.status_code, code_of(promoted)) == (422, "validation_error")


@pytest.mark.parametrize(
    ("role", "scopes"), [(Role.USER, USER_SCOPES), (Role.ADMIN, ALL_SCOPES), (Role.SUPERADMIN, ALL_SCOPES)]
)
async def test_the_role_gives_the_scopes(
    service: Service, visitor: httpx.AsyncClient, role: Role, scopes: frozenset[str]
) -> None:
    person = await new_person(service, role)

    assert (await visitor.get("/auth/me", headers=person.headers)).json()["scopes"] == sorted(scopes)
    assert (await visitor.get("/users", headers=person.headers)).status_code == (
        403 if role is Role.USER else 200
    )


async def test_an_api_key_is_no_person(client: httpx.AsyncClient) -> None:
    response = await client.get("/auth/me")

    assert (response.status_code, code_of(response)) == (403, "user_required")


async def test_a_person_asks_and_only_they_read_the_answer(
    service: Service, visitor: httpx.AsyncClient
) -> None:
    asking = await new_person(service)
    colleague = await new_person(service, Role.ADMIN, organization_id=asking.organization_id)

    answer = (await visitor.post("/chat", headers=asking.headers, json={"message": "Hello?"})).json()
    path = f"/chat/sessions/{answer['session_id']}/messages"

    assert len((await visitor.get(path, headers=asking.headers)).json()) == 2
    assert (await visitor.get(path, headers=colleague.headers)).status_code == 404


async def test_superadmins_act_where_they_say_and_others_only_at_home(
    service: Service, visitor: httpx.AsyncClient
) -> None:
    superadmin = await new_person(service, Role.SUPERADMIN)
    admin = await new_person(service, Role.ADMIN)
    key, key_organization = await service.new_key()

    async def users_of(headers: dict[str, str], organization_id: str) -> httpx.Response:
        return await visitor.get("/users", headers={**headers, "X-Organization-ID": organization_id})

    seen = await users_of(superadmin.headers, admin.organization_id)
    assert [user["id"] for user in seen.json()] == [admin.id]
    assert (await users_of(admin.headers, admin.organization_id)).status_code == 200
    assert (await users_of({"X-API-Key": key}, key_organization)).status_code == 200
    for headers, organization_id in (
        (superadmin.headers, "org_unknown"),
        (admin.headers, superadmin.organization_id),
        (admin.headers, "org_unknown"),
        (admin.headers, "'; DROP TABLE users; --"),
        ({"X-API-Key": key}, admin.organization_id),
    ):
        refused = await users_of(headers, organization_id)
        assert (refused.status_code, code_of(refused)) == (404, "organization_not_found")


async def test_a_key_ring_without_the_signing_key_ends_all_access_tokens(service: Service) -> None:
    person = await new_person(service)
    app = variant(service)
    app.state.runtime = replace(app.state.runtime, keyring=crypto.keyring("another secret key " * 3))

    async with client_of(app) as client:
        assert await me(client, person) == 401
