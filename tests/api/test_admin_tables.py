"""The tables at /admin: for superadmins alone, without anything secret, and whatever is changed there is told."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.routing import Mount

from app.admin.site import USED_ROUTES
from app.admin.views import TABLES
from app.core import ids
from app.core.principal import SYSTEM, Role
from app.db import tables as table_sessions
from app.db.models import Base
from app.db.tables import TableSessions
from app.main import create_app
from tests.api.authorization_rows import Persona
from tests.api.test_authorization_matrix import gather
from tests.api.test_totp import Phone, enrol
from tests.fixtures.accounts import PASSWORD, Person, new_person, password_hash
from tests.fixtures.service import Service, make_settings
from tests.fixtures.variants import client_of, variant

LOGIN_COOKIE = "ibid_tables"


@pytest.fixture(scope="session")
def app_with_tables(service: Service) -> FastAPI:
    return variant(service, admin_tables=True)


@pytest.fixture
async def browser(app_with_tables: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app_with_tables) as client:
        yield client


@pytest.fixture
async def superadmin(service: Service) -> Person:
    return await new_person(service, Role.SUPERADMIN)


def site_of(app: FastAPI) -> Any:
    """The mounted application behind /admin."""
    return next(route.app for route in app.routes if isinstance(route, Mount) and route.path == "/admin")


def form_token(page: httpx.Response) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page.text)
    assert found is not None, page.text
    return found[1]


async def log_in(
    browser: httpx.AsyncClient, email: str, password: str = PASSWORD, totp_code: str = "", **headers: str
) -> httpx.Response:
    token = form_token(await browser.get("/admin/login"))
    form = {"username": email, "password": password, "totp_code": totp_code, "form_token": token}
    return await browser.post("/admin/login", data=form, headers=headers)


async def is_in(browser: httpx.AsyncClient) -> bool:
    page = await browser.get("/admin/users/list")
    assert page.status_code in (200, 302)
    return page.status_code == 200


async def edit(browser: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    page = await browser.get(path)
    assert page.status_code == 200, page.text
    return await browser.post(path, data={"save": "Save", "form_token": form_token(page), **fields})


async def test_without_the_setting_there_is_nothing() -> None:
    async with client_of(create_app(make_settings())) as client:
        assert (await client.get("/admin/login")).status_code == 404


async def test_a_superadmin_logs_in_looks_around_and_logs_out(
    browser: httpx.AsyncClient, superadmin: Person
) -> None:
    response = await log_in(browser, superadmin.email)

    assert (response.status_code, response.headers["location"]) == (303, "/admin/")
    cookie = next(v for v in response.headers.get_list("set-cookie") if v.startswith(f"{LOGIN_COOKIE}="))
    assert {"HttpOnly", "Path=/admin", "SameSite=strict", "Max-Age=28800"} <= set(cookie.split("; "))
    page = await browser.get(f"/admin/users/list?search={superadmin.email}")
    assert superadmin.email in page.text
    held = dict(browser.cookies)
    await browser.get("/admin/logout")
    browser.cookies.update(held)
    assert not await is_in(browser), "the cookie works no longer, wherever it may have got to"


async def test_over_https_the_cookie_is_secure(app_with_tables: FastAPI, superadmin: Person) -> None:
    async with client_of(app_with_tables) as browser:
        browser.base_url = httpx.URL("https://ibid")
        response = await log_in(browser, superadmin.email)

    cookies = response.headers.get_list("set-cookie")
    assert len(cookies) == 2
    assert all("Secure" in cookie.split("; ") for cookie in cookies)


async def test_behind_a_proxy_links_and_cookies_are_for_what_the_client_sees(
    service: Service, superadmin: Person
) -> None:
    app = variant(service, admin_tables=True, trusted_proxies="10.0.0.0/8")
    async with client_of(app) as browser:
        browser.headers.update({"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"})
        page = await browser.get("/admin/login")
        cookie = page.headers["set-cookie"]

    assert 'action="https://ibid/admin/login"' in page.text
    assert "http://" not in page.text
    assert "Secure" in cookie.split("; ")


async def test_every_page_is_for_superadmins_with_the_cookie_and_nobody_else(
    service: Service, app_with_tables: FastAPI
) -> None:
    """The rule for all that is mounted there, whatever credentials of the API somebody sends."""
    cast = await gather(service)
    user = cast.people[Persona.USER]
    paths = pages(app_with_tables, {"users": user.id})

    assert {name for name, _, _ in paths} == USED_ROUTES - {"statics", "login"}
    for persona in Persona:
        async with client_of(app_with_tables, token=cast.credentials[persona]) as client:
            for name, method, path in paths:
                response = await client.request(method, path)
                assert response.status_code == 302, (persona, name, response.text)
                assert response.headers["location"] == "/admin/login", (persona, name)
    for persona in (Persona.USER, Persona.ADMIN, Persona.DEACTIVATED, Persona.OTHER_ADMIN):
        async with client_of(app_with_tables) as client:
            refused = await log_in(client, cast.people[persona].email)
            assert refused.status_code == 403, persona
            assert LOGIN_COOKIE not in client.cookies


def pages(app: FastAPI, examples: dict[str, str]) -> list[tuple[str, str, str]]:
    """Name, method and path of everything that is routed, but the login and the style sheets, which are public."""
    identity, key = next(iter(examples.items()))
    return [
        (route.name, method, "/admin" + route.path.replace("{identity}", identity).replace("{pk:path}", key))
        for route in site_of(app).routes
        if route.name not in ("statics", "login")
        for method in sorted(route.methods - {"HEAD"})
    ]


async def test_neither_an_access_token_nor_its_cookie_serves_as_the_other(
    app_with_tables: FastAPI, superadmin: Person
) -> None:
    async with client_of(app_with_tables) as browser:
        await log_in(browser, superadmin.email)
        cookie = browser.cookies[LOGIN_COOKIE]
        browser.cookies.clear()
        as_token = await browser.get("/auth/me", headers={"Authorization": f"Bearer {cookie}"})
        browser.cookies.set(LOGIN_COOKIE, superadmin.access_token, domain="ibid", path="/admin")
        assert as_token.status_code == 401
        assert not await is_in(browser)


@pytest.mark.parametrize("change", ["role", "is_active", "password", "logout everywhere"])
async def test_what_ends_a_login_ends_it_here_on_the_next_request(
    service: Service, browser: httpx.AsyncClient, superadmin: Person, change: str
) -> None:
    other = await new_person(service, Role.SUPERADMIN)
    await log_in(browser, superadmin.email)
    assert await is_in(browser)

    if change == "password":
        body = {"current_password": PASSWORD, "new_password": "another password 1"}
        done = await browser.post("/auth/password", headers=superadmin.headers, json=body)
    elif change == "logout everywhere":
        done = await browser.post("/auth/logout", headers=superadmin.headers, json={"everywhere": True})
    else:
        changed: dict[str, Any] = {"role": "admin"} if change == "role" else {"is_active": False}
        headers = {**other.headers, "X-Organization-ID": superadmin.organization_id}
        await new_person(service, Role.ADMIN, organization_id=superadmin.organization_id)
        done = await browser.patch(f"/users/{superadmin.id}", headers=headers, json=changed)

    assert done.is_success, done.text
    assert not await is_in(browser)


async def test_the_second_factor_is_asked_for_where_it_is_enrolled(
    browser: httpx.AsyncClient, superadmin: Person
) -> None:
    phone, _ = await enrol(browser, superadmin)

    without = await log_in(browser, superadmin.email)
    wrong = await log_in(browser, superadmin.email, totp_code="000000")
    right = await log_in(browser, superadmin.email, totp_code=phone.code())
    replayed = await log_in(browser, superadmin.email, totp_code=phone.code())

    assert [answer.status_code for answer in (without, wrong, right, replayed)] == [403, 403, 303, 403]
    assert "send the code" in without.text


async def test_a_superadmin_who_must_enrol_first_does_not_come_in(
    service: Service, superadmin: Person
) -> None:
    app = variant(service, admin_tables=True, admin_totp_required=True)
    async with client_of(app) as browser:
        refused = await log_in(browser, superadmin.email)
        assert (refused.status_code, "enrol" in refused.text) == (403, True)
        secret = (await browser.post("/auth/totp/enrol", headers=superadmin.headers)).json()["secret"]
        code = {"code": Phone(secret).code(steps=0)}
        await browser.post("/auth/totp/verify", headers=superadmin.headers, json=code)
        assert (await log_in(browser, superadmin.email, totp_code=Phone(secret).code())).status_code == 303


async def test_guesses_are_counted_together_with_those_at_the_api(
    service: Service, superadmin: Person
) -> None:
    app = variant(service, admin_tables=True)
    statuses = []
    for number in range(12):
        async with client_of(app) as browser:
            if number % 2:
                answer = await log_in(browser, superadmin.email, "wrong")
            else:
                form = {"username": superadmin.email, "password": "wrong"}
                answer = await browser.post("/auth/login", data=form)
            statuses.append(answer.status_code)

    assert statuses == [401, 403] * 5 + [429, 429]


async def test_a_form_from_elsewhere_is_refused(browser: httpx.AsyncClient, superadmin: Person) -> None:
    path = f"/admin/organizations/edit/{superadmin.organization_id}"
    fields = {"name": "Taken over", "save": "Save"}
    await log_in(browser, superadmin.email)
    token = form_token(await browser.get(path))

    without = await browser.post(path, data=fields)
    wrong = await browser.post(path, data={**fields, "form_token": "0" * 64})
    cross_site = await browser.post(
        path, data={**fields, "form_token": token}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    other_origin = await browser.post(
        path, data={**fields, "form_token": token}, headers={"Origin": "https://evil.example"}
    )
    by_get = await browser.get(path, params={**fields, "form_token": token})

    assert [r.status_code for r in (without, wrong, cross_site, other_origin)] == [403] * 4
    assert by_get.status_code == 200
    assert "Taken over" not in (await browser.get("/admin/organizations/list?search=Taken")).text.replace(
        "search=Taken", ""
    )
    foreign_login = await browser.post(
        "/admin/login", data={"username": superadmin.email, "password": PASSWORD}
    )
    assert foreign_login.status_code == 403


async def test_a_form_of_another_login_is_refused(
    service: Service, app_with_tables: FastAPI, superadmin: Person
) -> None:
    path = f"/admin/organizations/edit/{superadmin.organization_id}"
    other = await new_person(service, Role.SUPERADMIN)
    async with client_of(app_with_tables) as first, client_of(app_with_tables) as second:
        await log_in(first, superadmin.email)
        await log_in(second, other.email)
        token = form_token(await first.get(path))
        refused = await second.post(path, data={"name": "N", "save": "Save", "form_token": token})

    assert refused.status_code == 403


def test_every_table_is_shown() -> None:
    assert {table.model.__tablename__ for table in TABLES} == {
        table.name for table in Base.metadata.sorted_tables
    }


SECRET_NAME = re.compile(r"hash|secret|token_|password_hash|embedding$|subject|last_step|tsv|encrypted")


def test_no_column_that_sounds_secret_is_shown_or_edited(app_with_tables: FastAPI) -> None:
    views = {view.identity: view for view in _views(app_with_tables)}
    shown = {
        f"{name}.{column}"
        for name, view in views.items()
        for column in {*view._list_prop_names, *view._details_prop_names, *view._search_fields}
    }

    assert {column for column in shown if SECRET_NAME.search(column.partition(".")[2])} == set()
    edited = {
        f"{name}.{column}"
        for name, view in views.items()
        if view.can_edit
        for column in view._form_prop_names
    }
    assert edited == {
        "organizations.name",
        "users.name",
        "api_keys.name",
        "collections.name",
        "collections.description",
        "documents.title",
    }
    assert not any(view.can_create or view.can_delete or view.can_export for view in views.values())


def _views(app: FastAPI) -> Any:
    endpoint = next(route.endpoint for route in site_of(app).routes if route.name == "index")
    return endpoint.__self__.views


async def test_the_pages_of_every_table_open_and_show_nothing_secret(
    service: Service, browser: httpx.AsyncClient, superadmin: Person
) -> None:
    await log_in(browser, superadmin.email)
    await browser.post(f"/users/{superadmin.id}/password-reset", headers=superadmin.headers)
    await browser.post("/api-keys", headers=superadmin.headers, json={"name": "<b>K</b>", "scopes": ["read"]})
    await browser.post("/ingest", headers=superadmin.headers, json={"text": "<script>alert(1)</script>"})
    await make_bot(browser, superadmin)
    await browser.post("/chat", headers=superadmin.headers, json={"message": "<script>alert(2)</script>"})
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        hashes = (
            await session.execute(
                text(
                    "SELECT secret_hash FROM api_keys UNION SELECT token_hash FROM refresh_tokens"
                    " UNION SELECT token_hash FROM password_resets UNION SELECT subject FROM guesses"
                )
            )
        ).scalars()
        secrets = {*hashes, password_hash()}
    seen = 0
    for table in TABLES:
        page = await browser.get(f"/admin/{table.model.__tablename__}/list?pageSize=100")
        assert page.status_code == 200, (table.name, page.text)
        details = re.findall(r'href="(http://ibid/admin/[^"]*/details/[^"]*)"', page.text)
        for text_of_page in [page.text, *[(await browser.get(url)).text for url in details[:2]]]:
            assert [secret for secret in secrets if secret in text_of_page] == [], table.name
            assert "<script>alert" not in text_of_page
            assert "<b>K</b>" not in text_of_page
            seen += 1

    assert len(secrets) > 5
    assert seen > len(TABLES) * 3 // 2, "their details too, where there are rows"


async def make_bot(browser: httpx.AsyncClient, superadmin: Person) -> None:
    """With a row in each of its tables."""
    collection = await browser.post("/collections", headers=superadmin.headers, json={"name": "C"})
    body = {"name": "<b>K</b>", "provider": "extractive", "collection_ids": [collection.json()["id"]]}
    made = await browser.post("/bots", headers=superadmin.headers, json=body)
    listed = f"/bots/{made.json()['id']}/users/{superadmin.id}"
    assert (await browser.put(listed, headers=superadmin.headers)).status_code == 204


async def test_an_edit_is_stored_and_told_in_one_transaction(
    service: Service, browser: httpx.AsyncClient, superadmin: Person
) -> None:
    await log_in(browser, superadmin.email)

    saved = await edit(
        browser, f"/admin/organizations/edit/{superadmin.organization_id}", name="  New name  "
    )

    assert saved.status_code == 302, saved.text
    audit = await browser.get(
        "/audit",
        headers=superadmin.headers,
        params={"object_id": superadmin.organization_id, "action": "organization.changed"},
    )
    (entry,) = audit.json()
    assert (entry["actor_name"], entry["before"], entry["after"]) == (
        superadmin.email,
        {"name": "Test organization"},
        {"name": "  New name  "},
    )
    assert entry["address"].startswith("10.")
    assert entry["request_id"] == saved.headers["x-request-id"]


async def test_an_edit_that_is_not_valid_changes_nothing(
    browser: httpx.AsyncClient, superadmin: Person
) -> None:
    await log_in(browser, superadmin.email)
    path = f"/admin/organizations/edit/{superadmin.organization_id}"

    for name in ("", "   ", "x" * 201, "\x00"):
        assert (await edit(browser, path, name=name)).status_code == 400, name
        assert "Test organization" in (await browser.get(path)).text


async def test_nothing_else_can_be_changed(browser: httpx.AsyncClient, superadmin: Person) -> None:
    await log_in(browser, superadmin.email)
    page = await browser.get(f"/admin/users/edit/{superadmin.id}")
    fields = {"form_token": form_token(page), "save": "Save", "name": "N", "role": "user", "email": "x@y.z"}

    for method, path, expected in (
        ("POST", f"/admin/users/edit/{superadmin.id}", {302}),
        ("POST", "/admin/logins/edit/x", {403}),
        ("POST", "/admin/audit_log/edit/x", {403}),
        ("POST", "/admin/messages/edit/x", {403}),
        ("POST", "/admin/users/create", {404, 405}),
        ("GET", "/admin/users/export/csv", {404}),
        ("DELETE", f"/admin/users/delete?pks={superadmin.id}", {404, 405}),
    ):
        assert (await browser.request(method, path, data=fields)).status_code in expected, path
        me = (await browser.get("/auth/me", headers=superadmin.headers)).json()
        assert (me["role"], me["email"]) == ("superadmin", superadmin.email), path


STRANGE = (
    "/admin/users/list?sortBy=password_hash",
    "/admin/users/list?page=x",
    "/admin/users/list?pageSize=-1",
    "/admin/users/list?page=99999999999999999999",
    "/admin/users/list?search=%00",
    "/admin/users/list?search='; DROP TABLE users; --",
    "/admin/users/details/%00",
    "/admin/users/details/nobody",
    "/admin/pages/details/only-half-of-the-key",
    "/admin/pages/details/a;b;c",
    "/admin/guesses/details/x",
    "/admin/index_state/details/x",
    "/admin/index_state/details/99999999999999999999",
    "/admin/unknown/list",
    "/admin/users/ajax/lookup?name=x&term=y",
    "/admin/nothing",
)


async def test_a_strange_address_is_no_server_error(browser: httpx.AsyncClient, superadmin: Person) -> None:
    await log_in(browser, superadmin.email)

    statuses = {path: (await browser.get(path)).status_code for path in STRANGE}

    assert {
        path: status for path, status in statuses.items() if status not in (200, 302, 400, 403, 404)
    } == {}


async def test_what_the_pages_load_comes_from_the_service_itself(
    browser: httpx.AsyncClient, superadmin: Person
) -> None:
    await log_in(browser, superadmin.email)
    page = await browser.get("/admin/users/list")
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', page.text)

    assert len(loaded) >= 8
    for url in loaded:
        assert url.startswith("http://ibid/admin/statics/")
        assert (await browser.get(url)).status_code == 200


async def test_the_sessions_of_the_tables_only_read_and_only_behind_the_wall(service: Service) -> None:
    sessions = TableSessions(lambda: service.runtime.database.engine)

    async with sessions() as session:
        role = await session.scalar(text("SELECT current_user"))
        with pytest.raises(Exception, match="read-only transaction"):
            await session.execute(text("UPDATE organizations SET name = 'x'"))
    with table_sessions.writing():
        async with sessions() as session:
            changed = await session.execute(
                text("UPDATE organizations SET name = 'x' WHERE id = :id RETURNING 1"),
                {"id": ids.new(ids.Prefix.ORGANIZATION)},
            )
            with pytest.raises(Exception, match="permission denied"):
                await session.execute(text("DELETE FROM audit_log"))

    assert (role, changed.all()) == ("ibid_system", [])
