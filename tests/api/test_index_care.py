"""What is wrong with the index is told, and mended."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.core.principal import SYSTEM
from tests.fixtures.service import NewClient, Service
from tests.fixtures.uploads import ended, found

DAMAGE = {
    "stuck_documents": "UPDATE documents SET status = 'processing' WHERE id = :id",
    "miscounted_documents": "DELETE FROM chunks WHERE document_id = :id",
    "documents_of_another_model": "UPDATE chunks SET embedding_model = 'another' WHERE document_id = :id",
    "misplaced_documents": (
        "UPDATE chunks SET collection_id = (SELECT id FROM collections WHERE organization_id = chunks.organization_id"
        " AND NOT is_default) WHERE document_id = :id"
    ),
}


async def problems(client: httpx.AsyncClient) -> dict[str, int]:
    response = await client.get("/admin/index/health")
    assert response.status_code == 200, response.text
    health: dict[str, Any] = response.json()
    assert (health["status"] == "ok") == (not health["problems"])
    return {problem["name"]: problem["count"] for problem in health["problems"]}


async def test_a_sound_index_has_no_problems(client: httpx.AsyncClient) -> None:
    await client.post("/ingest", json={"text": "All is well with this."})

    assert await problems(client) == {}
    assert (await client.get("/admin/index/health")).json()["queue"]["ready"] == 0


@pytest.mark.parametrize("problem", DAMAGE)
async def test_damage_is_found_and_mended(client: httpx.AsyncClient, service: Service, problem: str) -> None:
    await client.post("/collections", json={"name": "Another"})
    made = (await client.post("/ingest", json={"text": "Mended by reading it again."})).json()
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        await session.execute(text(DAMAGE[problem]), {"id": made["document_id"]})
    assert await problems(client) == {problem: 1}

    repaired = await client.post("/admin/index/repair")

    assert (repaired.status_code, repaired.json()["documents_started"]) == (202, 1)
    assert (await ended(client, made["document_id"]))["status"] == "completed"
    assert await problems(client) == {}
    assert [hit["text"] for hit in await found(client, "mended")] == ["Mended by reading it again."]
    assert (await client.post("/admin/index/repair")).json()["documents_started"] == 0


async def test_problems_of_others_are_not_told(new_client: NewClient, service: Service) -> None:
    mine, theirs = await new_client(), await new_client()
    made = (await theirs.post("/ingest", json={"text": "Theirs is damaged."})).json()
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        await session.execute(text(DAMAGE["stuck_documents"]), {"id": made["document_id"]})

    assert await problems(mine) == {}
    assert (await mine.post("/admin/index/repair")).json()["documents_started"] == 0
    assert await problems(theirs) == {"stuck_documents": 1}
