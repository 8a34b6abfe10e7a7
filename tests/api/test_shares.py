"""Conversations shared by a link: a copy for strangers, that leads nowhere and closes at once."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.core import clock
from app.core.principal import SYSTEM
from app.services import maintenance, shares
from tests.api.test_sessions import BROCHURE, ask, tell
from tests.fixtures.accounts import new_person
from tests.fixtures.people import Caller, Company
from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, new_address, variant


async def share(caller: Caller, session_id: str, **body: Any) -> dict[str, Any]:
    response = await caller.http.post(f"/chat/sessions/{session_id}/shares", json=body)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


@pytest.fixture
async def mine(company: Company) -> Caller:
    """Somebody with a session `mine` of one turn."""
    await company.user.ingest(BROCHURE, title="Gateway", source="https://intranet/brochure.pdf")
    await ask(company.user, "How long is the warranty of the gateway?", "mine")
    return company.user


async def test_a_stranger_sees_the_conversation_as_it_was_shared(mine: Caller, service: Service) -> None:
    made = await share(mine, "mine")
    await ask(mine, "When does the office in Bremen open?", "mine")
    await mine.http.patch("/chat/sessions/mine", json={"title": "Renamed"})

    async with service.client(None) as stranger:
        response = await stranger.get(f"/shared/{made['token']}")

    seen = response.json()
    assert seen["title"] == "How long is the warranty of the gateway?"
    assert [message["content"] for message in seen["messages"]] == [
        "How long is the warranty of the gateway?",
        "The warranty of the gateway is five years. [1]",
    ]
    [source] = seen["messages"][1]["sources"]
    assert source.keys() == {"n", "title", "page", "snippet", "cited"}
    assert (source["title"], source["page"]) == ("Gateway", 1)
    assert response.headers["x-robots-tag"] == "noindex, nofollow, noarchive"
    assert response.headers["cache-control"] == "no-store"


async def test_nothing_that_a_stranger_sees_is_a_key_to_anything(mine: Caller, service: Service) -> None:
    made = await share(mine, "mine")
    messages = (await mine.http.get("/chat/sessions/mine/messages")).json()

    async with service.client(None) as stranger:
        seen = (await stranger.get(f"/shared/{made['token']}")).text
        page = (await stranger.get(f"/shared/{made['token']}", headers={"Accept": "text/html,*/*"})).text

    source = messages[1]["sources"][0]
    secrets = {
        source["document_id"],
        source["chunk_id"],
        source["source"],
        mine.id,
        mine.principal.organization,
    }
    secrets |= {message["id"] for message in messages} | {made["id"], '"mine"'}
    assert not [secret for secret in secrets if secret in seen or secret in page]


async def test_the_page_of_a_share_runs_nothing_and_loads_nothing(company: Company, service: Service) -> None:
    nasty = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    await tell(service, company.user.principal, "nasty", nasty, nasty)
    made = await share(company.user, "nasty")

    async with service.client(None) as stranger:
        response = await stranger.get(f"/shared/{made['token']}", headers={"Accept": "text/html"})

    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["content-security-policy"].endswith("sandbox")
    assert "<script" not in response.text
    assert "<img" not in response.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in response.text


async def test_a_revoked_link_is_closed_at_once_and_the_others_are_not(
    mine: Caller, service: Service
) -> None:
    first, second, third = [await share(mine, "mine") for _ in range(3)]

    async with service.client(None) as stranger:
        assert (await mine.http.delete(f"/chat/sessions/mine/shares/{first['id']}")).status_code == 204
        assert (await stranger.get(f"/shared/{first['token']}")).status_code == 404
        assert (await stranger.get(f"/shared/{second['token']}")).status_code == 200
        again = await mine.http.delete(f"/chat/sessions/mine/shares/{first['id']}")
        assert again.json()["error"]["code"] == "share_not_found"
        open_ones = (await mine.http.get("/chat/sessions/mine/shares")).json()
        assert [found["id"] for found in open_ones] == [third["id"], second["id"]]
        assert all("token" not in found for found in open_ones)
        await mine.http.delete("/chat/sessions/mine/shares")
        assert (await stranger.get(f"/shared/{second['token']}")).status_code == 404
        assert (await stranger.get(f"/shared/{third['token']}")).status_code == 404


async def test_a_link_that_is_revoked_while_it_is_read_shows_all_or_nothing(
    mine: Caller, service: Service
) -> None:
    made = await share(mine, "mine")

    async with service.client(None) as stranger:
        *reads, revoked = await asyncio.gather(
            *(stranger.get(f"/shared/{made['token']}") for _ in range(10)),
            mine.http.delete(f"/chat/sessions/mine/shares/{made['id']}"),
        )
        after = await stranger.get(f"/shared/{made['token']}")

    assert revoked.status_code == 204
    assert {read.status_code for read in reads} <= {200, 404}
    assert all(len(read.json()["messages"]) == 2 for read in reads if read.status_code == 200)
    assert after.status_code == 404


async def test_links_go_with_their_session(mine: Caller, service: Service) -> None:
    made = await share(mine, "mine")

    await mine.http.delete("/chat/sessions/mine")

    async with service.client(None) as stranger:
        assert (await stranger.get(f"/shared/{made['token']}")).status_code == 404


async def test_a_link_expires(mine: Caller, service: Service) -> None:
    soon = (clock.now() + timedelta(hours=1)).isoformat()
    made = await share(mine, "mine", expires_at=soon)
    async with service.client(None) as stranger:
        assert (await stranger.get(f"/shared/{made['token']}")).status_code == 200
        async with service.runtime.database.unit_of_work(SYSTEM) as session:
            await session.execute(
                text("UPDATE session_shares SET expires_at = now() WHERE id = :id"), {"id": made["id"]}
            )

        assert (await stranger.get(f"/shared/{made['token']}")).status_code == 404
    assert (await mine.http.get("/chat/sessions/mine/shares")).json() == []
    await maintenance.run_hourly(service.runtime)
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        left = await session.scalar(
            text("SELECT count(*) FROM session_shares WHERE id = :id"), {"id": made["id"]}
        )
    assert left == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [({"expires_at": "2020-01-01T00:00:00Z"}, 422), ({"expires_at": "soon"}, 422), ({"until": 1}, 422)],
)
async def test_a_share_that_can_not_be_is_refused(mine: Caller, body: dict[str, Any], status: int) -> None:
    response = await mine.http.post("/chat/sessions/mine/shares", json=body)

    assert response.status_code == status


async def test_a_session_without_an_answer_is_not_shared(company: Company, service: Service) -> None:
    await tell(service, company.user.principal, "empty", "Q", "")

    response = await company.user.http.post("/chat/sessions/empty/shares", json={})

    assert response.json()["error"]["code"] == "nothing_to_share"


async def test_a_session_has_so_many_links_and_no_more(mine: Caller) -> None:
    for _ in range(20):
        await share(mine, "mine")

    response = await mine.http.post("/chat/sessions/mine/shares", json={})

    assert (response.status_code, response.json()["error"]["code"]) == (409, "too_many_shares")


async def test_links_made_at_once_are_no_more_than_a_session_can_have(
    mine: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "_MOST_SHARES", 3)

    made = await asyncio.gather(*(mine.http.post("/chat/sessions/mine/shares", json={}) for _ in range(12)))

    assert sorted(response.status_code for response in made) == [201] * 3 + [409] * 9


async def test_only_a_hash_of_the_token_is_stored_and_the_audit_log_tells_of_links(
    mine: Caller, company: Company, service: Service
) -> None:
    made = await share(mine, "mine")
    await mine.http.delete("/chat/sessions/mine")

    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        rows = await session.scalars(
            text("SELECT CAST(a AS text) FROM audit_log a WHERE object_id = :id"), {"id": made["id"]}
        )
        told = list(rows)
    log = (await company.admin.http.get("/audit", params={"object_id": made["id"]})).json()

    assert [entry["action"] for entry in log] == ["share.revoked", "share.created"]
    assert {entry["actor_id"] for entry in log} == {mine.id}
    assert made["token"] not in "".join(told)
    assert "warranty" not in "".join(told)


async def test_links_of_somebody_who_was_deactivated_do_not_open(service: Service) -> None:
    admin = await new_person(service)
    async with service.client(admin.access_token) as client, service.client(None) as stranger:
        await client.post("/ingest", json={"text": BROCHURE})
        answer = (await client.post("/chat", json={"message": "How long is the warranty?"})).json()
        path = f"/chat/sessions/{answer['session_id']}/shares"
        token = (await client.post(path, json={})).json()["token"]
        assert (await stranger.get(f"/shared/{token}")).status_code == 200
        async with service.runtime.database.unit_of_work(SYSTEM) as session:
            await session.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": admin.id})

        assert (await stranger.get(f"/shared/{token}")).status_code == 404


async def test_where_sharing_is_off_no_link_is_made_and_none_opens(mine: Caller, service: Service) -> None:
    made = await share(mine, "mine")
    person = await new_person(service)
    app = variant(service, share_links=False)

    async with client_of(app, token=person.access_token) as client:
        refused = await client.post("/chat/sessions/mine/shares", json={})
        closed = await client.get(f"/shared/{made['token']}")

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "sharing_disabled")
    assert closed.status_code == 404


async def test_openings_are_counted_by_address(mine: Caller, service: Service) -> None:
    made = await share(mine, "mine")
    app = variant(service, rate_limit_shared="3/minute")
    address = new_address()

    async with client_of(app, address=address) as guessing, client_of(app) as another:
        wrong = [(await guessing.get(f"/shared/guess{number}")).status_code for number in range(4)]
        right = await guessing.get(f"/shared/{made['token']}")
        elsewhere = await another.get(f"/shared/{made['token']}")

    assert wrong == [404, 404, 404, 429]
    assert right.status_code == 429
    assert elsewhere.status_code == 200


@pytest.mark.parametrize("token", ["x", "%00", "a" * 201, "%F0%9F%98%80", "%ff", "..%2f..%2fhealth"])
async def test_a_wrong_link_opens_nothing(service: Service, token: str) -> None:
    async with service.client(None) as stranger:
        response = await stranger.get(f"/shared/{token}")

    assert response.status_code in (404, 422)
    assert json.loads(response.text)["error"]["code"]


async def test_the_token_of_a_link_is_in_no_log(
    mine: Caller, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    from app.api.middleware import loggable_path

    assert loggable_path("/shared/abc") == "/shared/…"
    assert loggable_path("/v1/shared/a/b\nc") == "/v1/shared/…"
    assert loggable_path("/chat/sessions/shared/abc") == "/chat/sessions/shared/abc"
