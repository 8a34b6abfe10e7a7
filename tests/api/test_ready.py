"""Readiness: what takes a replica out of rotation, and what is only told."""

import asyncio
from typing import Any

from sqlalchemy import text

from app.core.principal import SYSTEM
from tests.fixtures.service import Service
from tests.fixtures.workers import stored

PATIENCE_SECONDS = 60


async def part(service: Service, name: str) -> tuple[int, dict[str, Any]]:
    async with service.client(None) as client:
        response = await client.get("/health/ready")
    return response.status_code, next(part for part in response.json()["parts"] if part["name"] == name)


async def test_a_service_with_a_worker_is_ready_in_all_its_parts(service: Service) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await part(service, "queue"))[1][
            "message"
        ] is not None:  # its first sign of life is on its way
            await asyncio.sleep(0.1)
    async with service.client(None) as client:
        response = await client.get("/health/ready")

    assert (response.status_code, response.json()["status"]) == (200, "ok")
    names = [part["name"] for part in response.json()["parts"]]
    assert names == ["database", "migrations", "queue", "index", "storage"]


async def test_documents_that_nobody_works_on_are_told_but_take_no_replica_down(
    idle_service: Service,
) -> None:
    _, organization_id = await idle_service.new_key()
    document_id = await stored(idle_service.runtime, organization_id, b"It waits for a worker.")
    async with idle_service.runtime.database.unit_of_work(SYSTEM) as session:
        await session.execute(text("DELETE FROM workers"))

    code, queue = await part(idle_service, "queue")

    assert (code, queue["status"]) == (200, "degraded")
    assert "No worker is running" in queue["message"]
    async with idle_service.runtime.database.unit_of_work(SYSTEM) as session:
        await session.execute(
            text("UPDATE jobs SET available_at = now() - interval '1 hour' WHERE document_id = :id"),
            {"id": document_id},
        )
        await session.execute(text("INSERT INTO workers (name, concurrency) VALUES ('busy', 1)"))
    code, queue = await part(idle_service, "queue")
    assert (code, queue["status"]) == (200, "degraded")
    assert "WORKER_CONCURRENCY" in queue["message"]
    async with idle_service.runtime.database.unit_of_work(SYSTEM) as session:
        await session.execute(text("DELETE FROM documents WHERE id = :id"), {"id": document_id})
        await session.execute(text("DELETE FROM workers"))
