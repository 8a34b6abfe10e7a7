"""The doctor: each thing that can be wrong is found, named, and comes with what to do."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import text

from app import opening, providers
from app.core.config import Settings
from app.core.principal import SYSTEM
from app.db import upkeep
from app.db.engine import Database
from app.db.repositories import diagnostics as questions
from app.services import checks, diagnostics
from app.services.checks import Status
from tests.cli.conftest import Library, RunHere
from tests.fixtures.large import DIMENSION, MODEL, add_large_organization
from tests.fixtures.postgres import open_database
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service, make_settings


def test_all_is_well(library: Library, run_here: RunHere) -> None:
    ran = run_here("doctor", "--json", **library.env)

    assert ran.code == 0, ran.out
    assert ran.json["ok"] is True
    assert {check["status"] for check in ran.json["checks"]} == {"ok"}
    found = {check["name"]: check["message"] for check in ran.json["checks"]}
    assert found["contents"] == "organizations: 1, documents: 5, chunks: 4"
    assert {"Python", "settings", "database", "pgvector", "migrations", "roles", "index"} <= found.keys()


def test_a_dead_database_fails_with_what_to_do(run_here: RunHere) -> None:
    ran = run_here("doctor", DB_URL="postgresql://nobody@127.0.0.1:1/nothing")

    assert "No PostgreSQL listens at the host and port of DB_URL." in ran.out
    assert "Start it, or correct DB_URL." in ran.out
    assert ran.code == 1


def test_a_missing_secret_key_fails_with_how_to_make_one(run_here: RunHere) -> None:
    ran = run_here("doctor", "--json", DB_URL="postgresql://nobody@127.0.0.1:1/nothing", SECRET_KEY="")

    (check,) = [check for check in ran.json["checks"] if check["name"] == "secret key"]
    assert (check["status"], check["message"]) == (
        "fail",
        "SECRET_KEY is not set, and with DB_URL it must be.",
    )
    assert check["next_step"].startswith("Make one with `openssl rand -base64 32`")


def test_settings_that_are_not_valid_are_named(run_here: RunHere) -> None:
    ran = run_here("doctor", "--json", CHAT_TEMPERATURE="hot")

    (check,) = [check for check in ran.json["checks"] if check["status"] == "fail"]
    assert check["name"] == "settings"
    assert "CHAT_TEMPERATURE" in check["message"]
    assert ran.code == 1


async def test_an_index_of_another_model_is_told_and_fails_where_that_can_not_be_had(
    library: Library,
) -> None:
    settings = make_settings(DB_URL=library.env["DB_URL"])
    database = open_database(library.env["DB_URL"])
    async with opening.open_runtime(settings, database) as runtime:
        model = runtime.embeddings
        model._identity = "another"
        remote = "UPDATE index_state SET embedding_model = replace(embedding_model, :one, :other)"
        names = {"one": "sentence-transformers/all-MiniLM-L6-v2", "other": "remote-model"}

        told = [check async for check in diagnostics.database(database, settings, model)]
        async with database.unit_of_work(SYSTEM) as session:
            await session.execute(text(remote), names)
        try:
            failed = [check async for check in diagnostics.database(database, settings, model)]
        finally:
            async with database.unit_of_work(SYSTEM) as session:
                await session.execute(text(remote), {"one": names["other"], "other": names["one"]})

    assert [check.name for check in told if check.status is Status.WARN] == ["index"]
    assert "POST /admin/index/rebuild" in next(
        check.next_step or "" for check in told if check.name == "index"
    )
    assert [check.name for check in failed if check.status is Status.FAIL] == ["index"]
    await database.close()


async def test_a_login_role_that_may_not_work_as_ours_fails(database_url: str) -> None:
    admin = await asyncpg.connect(database_url)
    await admin.execute("DROP ROLE IF EXISTS outsider")
    await admin.execute("CREATE ROLE outsider LOGIN")
    await admin.execute("GRANT SELECT ON alembic_version TO outsider")
    database = open_database(database_url.replace("postgres:@", "outsider:@"))

    checks = [check async for check in diagnostics.database(database, make_settings(), None)]

    assert [check.name for check in checks if check.status is Status.FAIL] == ["role ibid_app"]
    assert "GRANT ibid_app TO" in (checks[-1].next_step or "")
    await database.close()
    await admin.execute("DROP OWNED BY outsider; DROP ROLE outsider")
    await admin.close()


async def test_the_vector_index_of_a_large_organization_is_seen_once_it_is_built(
    database: Database, database_url: str
) -> None:
    owner = await asyncpg.connect(database_url)
    await add_large_organization(owner, "org_large", 11)
    await owner.close()

    async def seen(model: str = MODEL, from_rows: int = 10) -> tuple[int, int]:
        return await questions.graphs(database, model, from_rows=from_rows)

    before = await seen()
    await upkeep.ensure_vector_index(
        database, embedding_model=MODEL, dimension=DIMENSION, from_rows=10, memory_mb=64
    )

    assert (before, await seen()) == ((1, 0), (1, 1))
    assert await seen("another") == (1, 0)
    assert await seen(from_rows=11) == (0, 0)


async def test_a_key_that_the_provider_refuses_fails(provider: ScriptedProvider) -> None:
    settings = make_settings(openai_api_key="sk-wrong", openai_base_url=provider.url, embedding_model="m")
    provider.embedding_script = [Reply(status=401)]
    provider.default = Reply(status=401)

    async with providers.http_client(settings) as client:
        embedding = await diagnostics.embedding(providers.embedding_model(settings, client))
        chat = await diagnostics.chat(providers.chat_model(settings, client), settings)

    assert (embedding.status, chat.status) == (Status.FAIL, Status.FAIL)
    assert "OPENAI_API_KEY" in (embedding.next_step or "")
    assert "OPENAI_API_KEY" in (chat.next_step or "")


def at_port(port: int) -> Settings:
    return make_settings(host="127.0.0.1", port=port)


async def test_the_port_may_be_in_use_by_ibid_but_by_nothing_else(service: Service) -> None:
    ours = await checks.port(at_port(urlsplit(service.url).port or 0))
    with socket.create_server(("127.0.0.1", 0)) as other:
        theirs = await checks.port(at_port(other.getsockname()[1]))

    assert (ours.status, theirs.status) == (Status.OK, Status.FAIL)


def test_a_data_directory_that_can_not_be_made_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    check = checks.data_directory(make_settings(data_dir=tmp_path / "file" / "data"))

    assert check.status is Status.FAIL


def test_original_files_on_a_disk_that_is_lost_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lasting = checks.storage(make_settings(data_dir=tmp_path))
    monkeypatch.setenv("RAILWAY_ENVIRONMENT", "production")
    database = checks.storage(make_settings(data_dir=tmp_path, DB_URL="postgresql://unused/x"))
    lost = checks.storage(make_settings(data_dir=tmp_path, storage_url=f"file://{tmp_path}"))
    bucket = checks.storage(make_settings(data_dir=tmp_path, storage_url="s3://bucket/files"))
    monkeypatch.setenv("RAILWAY_VOLUME_MOUNT_PATH", str(tmp_path))
    volume = checks.storage(make_settings(data_dir=tmp_path / "ibid"))
    beside = checks.storage(make_settings(data_dir=Path("/srv/data")))

    assert [check.status for check in (lasting, bucket, volume, database)] == [Status.OK] * 4
    assert database.message == "in the database"
    assert (lost.status, beside.status) == (Status.WARN, Status.WARN)
    assert "STORAGE_URL" in (lost.next_step or "")
