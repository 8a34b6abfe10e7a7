"""One-time tokens as links that a person opens, and what becomes of the keys of who leaves."""

from html.parser import HTMLParser
from urllib.parse import urlsplit

import httpx
import pytest

from app.core.principal import ALL_SCOPES, Role
from tests.api.test_auth import code_of
from tests.fixtures.accounts import PASSWORD, Person, log_in, new_person
from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, variant


@pytest.fixture
def visitor(service: Service) -> httpx.AsyncClient:
    return client_of(variant(service, public_url="https://ibid.example.com/", signup="invitation"))


@pytest.fixture
async def admin(service: Service) -> Person:
    return await new_person(service, Role.ADMIN)


class Page(HTMLParser):
    """What a browser makes of it: the action of the form and the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action = ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.action = given["data-action"] or ""
        if tag == "script":
            self.scripts.append(given["src"] or "")


async def opened(client: httpx.AsyncClient, url: str) -> tuple[str, str]:
    """What the link's page posts to, and the token that it sends there."""
    link = urlsplit(url)
    page = await client.get(link.path)
    assert (link.scheme, link.netloc, link.query) == ("https", "ibid.example.com", "")
    assert page.status_code == 200
    assert link.fragment not in page.text
    shown = Page(page.text)
    for script in shown.scripts:
        served = await client.get(f"/{script}")
        assert served.headers["content-type"].startswith("text/javascript")
    assert (
        "'unsafe-inline'"
        not in page.headers["content-security-policy"].partition("script-src")[2].split(";")[0]
    )
    return f"/{shown.action}", link.fragment


async def test_a_link_sets_the_password_of_a_new_user(visitor: httpx.AsyncClient, admin: Person) -> None:
    made = await visitor.post("/users", headers=admin.headers, json={"email": "link@example.com"})
    token = made.json()["password_token"]

    action, fragment = await opened(visitor, token["url"])
    done = await visitor.post(action, json={"token": fragment, "new_password": PASSWORD})

    assert (fragment, done.status_code) == (token["token"], 204)
    assert (await log_in(visitor, "link@example.com")).status_code == 200


async def test_a_reset_and_an_invitation_have_links_too(visitor: httpx.AsyncClient, admin: Person) -> None:
    reset = await visitor.post(f"/users/{admin.id}/password-reset", headers=admin.headers)
    invited = await visitor.post("/users/invitations", headers=admin.headers, json={"email": "j@example.com"})

    assert await opened(visitor, reset.json()["url"]) == ("/auth/password-reset", reset.json()["token"])
    action, fragment = await opened(visitor, invited.json()["url"])
    joined = await visitor.post(action, json={"invitation": fragment, "password": PASSWORD, "name": "J"})
    assert (joined.status_code, joined.json()["email"]) == (201, "j@example.com")


async def test_without_a_public_address_there_is_the_token_alone(service: Service, admin: Person) -> None:
    client = client_of(variant(service))

    reset = await client.post(f"/users/{admin.id}/password-reset", headers=admin.headers)

    assert reset.json()["url"] is None
    assert len(reset.json()["token"]) > 40


async def new_key(client: httpx.AsyncClient, **headers: str) -> str:
    body = {"name": "K", "scopes": sorted(ALL_SCOPES)}
    made = await client.post("/api-keys", headers=headers, json=body)
    assert made.status_code == 201, made.text
    key: str = made.json()["key"]
    return key


@pytest.mark.parametrize("leaving", ["deactivated", "demoted", "deleted"])
async def test_the_keys_of_an_admin_who_leaves_go_with_them(
    service: Service, visitor: httpx.AsyncClient, admin: Person, leaving: str
) -> None:
    leaver = await new_person(service, Role.ADMIN, organization_id=admin.organization_id)
    made = await new_key(visitor, **leaver.headers)
    made_with_it = await new_key(visitor, **{"X-API-Key": made})
    of_another = await new_key(visitor, **admin.headers)

    if leaving == "deleted":
        done = await visitor.delete(f"/users/{leaver.id}", headers=admin.headers)
    else:
        change = {"is_active": False} if leaving == "deactivated" else {"role": "user"}
        done = await visitor.patch(f"/users/{leaver.id}", headers=admin.headers, json=change)

    assert done.is_success
    statuses = [
        (await visitor.get("/documents", headers={"X-API-Key": key})).status_code
        for key in (made, made_with_it, of_another)
    ]
    assert statuses == [401, 401, 200]
    told = await visitor.get("/audit", headers=admin.headers, params={"action": "api_key.revoked"})
    assert {entry["actor_id"] for entry in told.json()} == {admin.id}
    assert len(told.json()) == 2


async def test_keys_may_be_kept_where_one_says_so(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    leaver = await new_person(service, Role.ADMIN, organization_id=admin.organization_id)
    key = await new_key(visitor, **leaver.headers)

    change = {"is_active": False, "keep_api_keys": True}
    assert (await visitor.patch(f"/users/{leaver.id}", headers=admin.headers, json=change)).is_success
    assert (await visitor.delete(f"/users/{leaver.id}?keep_api_keys=true", headers=admin.headers)).is_success

    assert (await visitor.get("/documents", headers={"X-API-Key": key})).status_code == 200


async def test_the_keys_that_a_superadmin_made_elsewhere_go_too(
    service: Service, visitor: httpx.AsyncClient, admin: Person
) -> None:
    leaver = await new_person(service, Role.SUPERADMIN)
    other = await new_person(service, Role.SUPERADMIN, organization_id=leaver.organization_id)
    key = await new_key(visitor, **leaver.headers, **{"X-Organization-ID": admin.organization_id})

    assert (await visitor.delete(f"/users/{leaver.id}", headers=other.headers)).is_success

    refused = await visitor.get("/documents", headers={"X-API-Key": key})
    assert (refused.status_code, code_of(refused)) == (401, "unauthenticated")
