"""The doctor: each thing that can be wrong is found, named, and comes with what to do."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from app import main
from app.core.config import Settings
from app.services import diagnostics
from app.services.diagnostics import Status
from tests.cli.conftest import Library, RunHere, run_ibid
from tests.fixtures.postgres import open_database
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service, make_settings


async def test_all_is_well(library: Library) -> None:
    ran = await run_ibid("doctor", "--json", env=library.env, cwd=library.folder)

    assert ran.code == 0, ran.out
    assert ran.json["ok"] is True
    assert {check["status"] for check in ran.json["checks"]} == {"ok"}
    found = {check["name"]: check["message"] for check in ran.json["checks"]}
    assert found["contents"] == "organizations: 1, documents: 3, chunks: 3"
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


async def test_an_index_of_another_model_fails(library: Library) -> None:
    settings = make_settings(DB_URL=library.env["DB_URL"])
    database = open_database(library.env["DB_URL"])
    async with main.open_runtime(settings, database) as runtime:
        model = runtime.embeddings
        model._identity = "another"

        checks = [check async for check in diagnostics.database(database, settings, model)]

    assert [check.name for check in checks if check.status is Status.FAIL] == ["index"]
    await database.close()


async def test_a_key_that_the_provider_refuses_fails(provider: ScriptedProvider) -> None:
    settings = make_settings(openai_api_key="sk-wrong", openai_base_url=provider.url, embedding_model="m")
    provider.embedding_script = [Reply(status=401)]
    provider.default = Reply(status=401)

    async with httpx.AsyncClient(trust_env=False) as client:
        embedding = await diagnostics.embedding(main._embedding_model(settings, client))
        chat = await diagnostics.chat(main._chat_model(settings, client), settings)

    assert (embedding.status, chat.status) == (Status.FAIL, Status.FAIL)
    assert "OPENAI_API_KEY" in (embedding.next_step or "")
    assert "OPENAI_API_KEY" in (chat.next_step or "")


def at_port(port: int) -> Settings:
    return make_settings(host="127.0.0.1", port=port)


async def test_the_port_may_be_in_use_by_ibid_but_by_nothing_else(service: Service) -> None:
    ours = await diagnostics.port(at_port(urlsplit(service.url).port or 0))
    with socket.create_server(("127.0.0.1", 0)) as other:
        theirs = await diagnostics.port(at_port(other.getsockname()[1]))

    assert (ours.status, theirs.status) == (Status.OK, Status.FAIL)


def test_a_data_directory_that_can_not_be_made_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    check = diagnostics.data_directory(make_settings(data_dir=tmp_path / "file" / "data"))

    assert check.status is Status.FAIL
