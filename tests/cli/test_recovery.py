"""The way back in: a new key and a new password from the machine itself; and a start that can be stopped at any moment."""

import asyncio
import signal
import sys
from pathlib import Path

from app.core import security
from app.core.principal import SYSTEM, Role, Scope
from app.db.repositories.accounts import AccountRepository
from app.db.repositories.identity import IdentityRepository
from app.services import auth
from tests.cli.conftest import environment, finish, run_ibid, start_ibid
from tests.fixtures.postgres import open_database


async def test_a_key_made_at_the_machine_works(database_url: str, tmp_path: Path) -> None:
    env = environment(DB_URL=database_url)
    arguments = ("key", "create", "Front end", "--scope", "chat", "--days", "30", "--rate-limit", "10/minute")
    ran = await run_ibid(*arguments, "--json", env=env, cwd=tmp_path)
    database = open_database(database_url)
    principal = await auth.authenticate_key(database, ran.json["key"])
    await database.close()

    assert ran.code == 0, ran.err
    assert principal.scopes == {Scope.CHAT}
    assert principal.rate_limit == "10/minute"


async def test_a_wrong_scope_or_limit_is_a_sentence(database_url: str, tmp_path: Path) -> None:
    env = environment(DB_URL=database_url)
    scope = await run_ibid("key", "create", "K", "--scope", "everything", env=env, cwd=tmp_path)
    limit = await run_ibid("key", "create", "K", "--rate-limit", "often", env=env, cwd=tmp_path)

    assert (scope.code, limit.code) == (1, 1)
    assert "'everything' is not a valid Scope" in scope.err
    assert "'often' is no rate like 60/minute" in limit.err
    assert "Traceback" not in scope.err + limit.err


async def test_a_lost_password_is_replaced(database_url: str, tmp_path: Path) -> None:
    database = open_database(database_url)
    async with database.unit_of_work(SYSTEM) as session:
        organization_id = await IdentityRepository(session).add_organization("O")
        await AccountRepository(session).add(
            organization_id=organization_id,
            email="boss@example.com",
            name="",
            password_hash=security.hash_password("forgotten password"),
            role=Role.SUPERADMIN,
        )
    env = environment(DB_URL=database_url)
    ran = await run_ibid("user", "password", "Boss@Example.com", env=env, cwd=tmp_path)
    unknown = await run_ibid("user", "password", "nobody@example.com", env=env, cwd=tmp_path)
    async with database.unit_of_work(SYSTEM) as session:
        user = await AccountRepository(session).find_by_email("boss@example.com")
    await database.close()

    assert ran.code == 0, ran.err
    assert user is not None
    assert security.verify_password(ran.out.strip(), user.password_hash)
    assert not security.verify_password("forgotten password", user.password_hash)
    assert unknown.code == 1
    assert "There is no account with this e-mail address." in unknown.err


async def test_sigterm_ends_a_start_that_still_imports(tmp_path: Path) -> None:
    """As process 1 of a container it would be ignored without a handler."""
    (tmp_path / "uvicorn.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(100)\n")
    env = environment()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app.cli",
        "serve",
        env=env | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"importing\n"
    process.send_signal(signal.SIGTERM)
    ran = await finish(process)

    assert ran.code == 128 + signal.SIGTERM
    assert "Traceback" not in ran.err


async def test_a_port_of_the_database_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    env = environment(DB_URL="postgresql://ibid:secret@localhost:port/ibid")
    ran = await finish(await start_ibid("serve", env=env, cwd=tmp_path))

    assert ran.code == 1
    assert "DB_URL can't be understood." in ran.err
    assert "Traceback" not in ran.err
    assert "secret" not in ran.err
