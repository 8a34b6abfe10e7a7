"""What `ibid doctor` tells, over the API: for superadmins, without a word of what is secret."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app.core.principal import Role
from app.services import diagnostics
from tests.fixtures.accounts import new_person
from tests.fixtures.people import Caller, Company, People
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service


async def told(client: httpx.AsyncClient, **params: Any) -> dict[str, Any]:
    response = await client.get("/admin/diagnostics", params=params)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def by_name(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in body["checks"]}


@asynccontextmanager
async def superadmin_of(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A superadmin of a fresh organization, logged in."""
    person = await new_person(service, Role.SUPERADMIN)
    async with service.client(None) as client:
        client.headers.update(person.headers)
        yield client


@pytest.fixture
async def superadmin(people: People) -> Caller:
    return await people.person(await people.organization(), Role.SUPERADMIN)


async def test_a_superadmin_sees_what_the_doctor_sees(superadmin: Caller, service: Service) -> None:
    body = await told(superadmin.http)

    checks = by_name(body)
    assert body["ok"] is True
    assert {
        "Python",
        "secret key",
        "original files",
        "database",
        "pgvector",
        "migrations",
        "roles",
        "contents",
    } <= set(checks)
    assert checks["roles"]["status"] == "ok"
    assert "embedding model" not in checks
    secrets = (service.runtime.settings.secret_key, service.runtime.settings.db_url)
    assert not [secret for secret in secrets if secret and secret.get_secret_value() in json.dumps(body)]


async def test_what_concerns_the_whole_service_is_not_for_admins_of_an_organization(company: Company) -> None:
    response = await company.admin.http.get("/admin/diagnostics")

    assert (response.status_code, response.json()["error"]["code"]) == (403, "superadmin_required")


async def test_providers_are_asked_where_that_is_wanted_and_what_it_costs_is_noted(
    provider_service: Service, provider: ScriptedProvider
) -> None:
    async with superadmin_of(provider_service) as client:
        without = by_name(await told(client))
        assert (without.keys() & {"chat model", "embedding model"}, provider.chats) == (set(), [])
        asked = by_name(await told(client, providers=True))
        usage = (await client.get("/usage", params={"group_by": "purpose"})).json()
        provider.default = Reply(status=401)
        refused = await told(client, providers=True)

    assert asked["chat model"]["status"] == asked["embedding model"]["status"] == "ok"
    assert [
        (row["purpose"], row["prompt_tokens"]) for row in usage["rows"] if row["purpose"] != "embedding"
    ] == [("probe", 100)]
    assert (refused["ok"], by_name(refused)["chat model"]["status"]) == (False, "fail")
    assert "OPENAI_API_KEY" in by_name(refused)["chat model"]["next_step"]


async def test_a_provider_that_does_not_answer_is_not_waited_for_without_end(
    provider_service: Service, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "_LONGEST_SECONDS", 0.2)
    provider.default = Reply(delay_seconds=1.5)

    async with superadmin_of(provider_service) as client:
        body = await told(client, providers=True)

    check = by_name(body)["chat model"]
    assert (check["status"], "no answer" in check["message"]) == ("fail", True)
