"""A key that was live a moment ago opens a turn without being looked up first, and opens nothing once it is revoked or expired."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from app.core.principal import SYSTEM, Scope
from app.db.repositories.credentials import CredentialRepository, StoredKey
from app.services.auth import authenticate_asker
from tests.api.test_auth import code_of
from tests.fixtures.service import Service

TWO_USES = 2
"""The first is noted as the last use, and what is remembered is from before it; from then on it is remembered."""

ENDS = {
    "revoked": "UPDATE api_keys SET revoked_at = now() WHERE id = $1",
    "expired": "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = $1",
    "deleted": "DELETE FROM api_keys WHERE id = $1",
}
ASKED: dict[str, dict[str, Any]] = {
    "a question": {"message": "What is revoked?"},
    "a stream": {"message": "What is revoked?", "stream": True},
    "a session of its own": {"message": "What is revoked?", "session_id": "sess_of_a_key"},
    "a bot that is not there": {"message": "What is revoked?", "bot_id": "bot_nowhere"},
}


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The public parts that were looked up."""
    parts: list[str] = []
    find: Callable[..., Awaitable[StoredKey | None]] = CredentialRepository.find_live_key

    async def noted(self: CredentialRepository, public_part: str) -> StoredKey | None:
        parts.append(public_part)
        return await find(self, public_part)

    monkeypatch.setattr(CredentialRepository, "find_live_key", noted)
    return parts


async def known_key(service: Service) -> tuple[str, str]:
    """A key that is remembered, and its id."""
    key, _ = await service.new_key()
    async with service.client(key) as client:
        for _ in range(TWO_USES):
            answer = await client.post(
                "/chat", json={"message": "What is there?", "session_id": "sess_of_a_key"}
            )
            assert answer.status_code == 200
    return key, (await authenticate_asker(service.runtime, key)).principal.id


async def end(service: Service, how: str, key_id: str) -> None:
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        await (await session.connection()).exec_driver_sql(ENDS[how], (key_id,))


async def messages_of(service: Service, key_id: str) -> int:
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        found = await (await session.connection()).exec_driver_sql(
            "SELECT count(*) FROM messages m JOIN sessions s USING (organization_id) WHERE s.owner_id = $1"
            " AND s.id = m.session_id",
            (key_id,),
        )
        return int(found.scalar_one())


async def test_a_key_is_looked_up_once_for_many_questions(service: Service, looked_up: list[str]) -> None:
    key, _ = await known_key(service)
    before = len(looked_up)
    async with service.client(key) as client:
        answers = [await client.post("/chat", json={"message": f"Question {n}?"}) for n in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert len(looked_up) == before
        await client.get("/documents")
    assert len(looked_up) == before + 1, "whoever opens no turn is looked up"


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("how", ENDS)
async def test_a_key_that_has_ended_asks_nothing_more_although_it_is_remembered(
    service: Service, looked_up: list[str], how: str, asked: str
) -> None:
    key, key_id = await known_key(service)
    stored = await messages_of(service, key_id)
    await end(service, how, key_id)
    before = len(looked_up)
    async with service.client(key) as client:
        refused = await client.post("/chat", json=ASKED[asked])
    assert (refused.status_code, code_of(refused)) == (401, "unauthenticated")
    assert len(looked_up) == before, "it was remembered"
    assert await messages_of(service, key_id) == stored
    async with service.client(key) as client:
        assert (await client.post("/chat", json=ASKED[asked])).status_code == 401
    assert len(looked_up) > before, "it is forgotten"


async def test_a_key_that_has_ended_takes_up_no_stream(service: Service) -> None:
    key, key_id = await known_key(service)
    async with service.client(key) as client:
        answer = (await client.post("/chat", json={"message": "What is there?"})).json()
        await end(service, "revoked", key_id)
        refused = await client.post(
            "/chat",
            json={"message": "What is there?", "stream": True},
            headers={"Last-Event-ID": f"{answer['message_id']}:1"},
        )
    assert (refused.status_code, code_of(refused)) == (401, "unauthenticated")


async def test_another_secret_or_organization_is_refused_although_the_key_is_remembered(
    service: Service,
) -> None:
    key, _ = await known_key(service)
    other = key[:-1] + ("a" if key[-1] != "a" else "b")
    async with service.client(other) as client:
        assert (await client.post("/chat", json={"message": "Who am I?"})).status_code == 401
    async with service.client(key) as client:
        elsewhere = await client.post(
            "/chat", json={"message": "Who am I?"}, headers={"X-Organization-ID": "org_elsewhere"}
        )
        assert (elsewhere.status_code, code_of(elsewhere)) == (404, "organization_not_found")


async def test_a_remembered_key_keeps_its_scopes(service: Service) -> None:
    key, _ = await service.new_key(frozenset({Scope.READ, Scope.SEARCH}))
    async with service.client(key) as client:
        refusals = [await client.post("/chat", json={"message": "May I?"}) for _ in range(3)]
    assert [(answer.status_code, code_of(answer)) for answer in refusals] == [(403, "missing_scope")] * 3


async def test_no_transaction_can_be_had_for_a_key_that_nobody_has_asked_about(service: Service) -> None:
    key, _ = await known_key(service)
    principal = (await authenticate_asker(service.runtime, key)).principal
    assert principal.is_unproven
    database = service.runtime.database
    for way in (database.unit_of_work, database.direct, database.single):
        with pytest.raises(RuntimeError, match="still live"):
            async with way(principal):
                pass
    assert not replace(principal).proven().is_unproven
