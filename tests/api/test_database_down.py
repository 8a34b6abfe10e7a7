"""The database goes away and comes back: 503 with the error shape, and recovery without a restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from app.db import embedded
from app.db.embedded import EmbeddedPostgres
from tests.fixtures.service import Service, make_settings, running


@pytest.fixture
async def own_postgres(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL of the test's own, to stop and start."""
    server = await asyncio.to_thread(embedded.start, tmp_path / "data")
    yield server
    await asyncio.to_thread(server.stop)


async def test_without_its_database_every_route_says_unavailable_and_recovers(
    own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with running(make_settings(DB_URL=own_postgres.url, db_connect_timeout_seconds=2)) as service:
        key, _ = await service.new_key()
        async with service.client(key) as client:
            assert (await client.post("/ingest", json={"text": "The sky is blue."})).status_code == 200

            await asyncio.to_thread(own_postgres._server.stop)

            for method, path, body in (
                ("GET", "/documents", None),
                ("POST", "/ingest", {"text": "Lost?"}),
                ("POST", "/search", {"query": "sky"}),
                ("POST", "/chat", {"message": "What colour is the sky?"}),
            ):
                response = await client.request(method, path, json=body)
                assert response.status_code == 503, response.text
                assert response.json()["error"]["code"] == "database_unavailable"
            assert (await client.get("/health")).status_code == 200
            ready = await client.get("/health/ready")
            assert ready.status_code == 503
            assert ready.json()["parts"][0] == {
                "name": "database",
                "status": "down",
                "message": "The database does not answer; try again shortly.",
            }

            await asyncio.to_thread(embedded.start, tmp_path / "data")

            assert (await client.get("/health/ready")).status_code == 200
            answer = (await client.post("/chat", json={"message": "What colour is the sky?"})).json()
            assert answer["answer"].startswith("The sky is blue.")
            assert len((await client.get("/documents")).json()) == 1


async def test_a_full_disk_is_said_and_nothing_is_half_stored(
    service: Service, client: httpx.AsyncClient
) -> None:
    full = """
    CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF NEW.text LIKE '%no space%' THEN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END IF; RETURN NEW; END $$
    """
    async with service.runtime.database.engine.begin() as connection:
        await connection.execute(text(full))
        await connection.execute(
            text("CREATE TRIGGER disk_full BEFORE INSERT ON chunks FOR EACH ROW EXECUTE FUNCTION disk_full()")
        )
    try:
        response = await client.post("/ingest", json={"text": "There is no space left."})
    finally:
        async with service.runtime.database.engine.begin() as connection:
            await connection.execute(text("DROP TRIGGER disk_full ON chunks"))
            await connection.execute(text("DROP FUNCTION disk_full"))

    assert (response.status_code, response.json()["error"]["code"]) == (507, "storage_full")
    assert (await client.get("/documents")).json() == []
