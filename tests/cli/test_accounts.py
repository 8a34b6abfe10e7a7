"""`ibid user create` and `ibid key create`, and who is told to have done it."""

from pathlib import Path

import asyncpg
import pytest

from app.core.principal import SYSTEM, Role, Scope
from app.db.repositories.accounts import AccountRepository
from app.db.repositories.identity import IdentityRepository
from app.services import auth
from tests.cli.conftest import RunHere, environment, run_ibid
from tests.fixtures.postgres import open_database


@pytest.mark.timeout(240)
async def test_accounts_and_keys_are_made_and_told(database_url: str, tmp_path: Path) -> None:
    env = environment(DB_URL=database_url, PUBLIC_URL="https://ibid.example.com")

    user = await run_ibid(
        *("user", "create", "Aisyah@Example.com", "--role", "superadmin", "--name", "Aisyah", "--json"),
        env=env,
        cwd=tmp_path,
    )
    key = await run_ibid(
        *(
            "key",
            "create",
            "Nightly import",
            "--scope",
            "ingest",
            "--scope",
            "read",
            "--days",
            "30",
            "--json",
        ),
        env=env,
        cwd=tmp_path,
    )
    again = await run_ibid("user", "create", "aisyah@example.com", env=env, cwd=tmp_path)

    assert (user.code, user.json["email"], user.json["role"]) == (0, "aisyah@example.com", "superadmin")
    assert user.json["password_url"] == f"https://ibid.example.com/set-password#{user.json['password_token']}"
    assert key.code == 0
    assert (again.code, "There is an account with this e-mail address already" in again.err) == (1, True)
    database = open_database(database_url)
    principal = await auth.authenticate_key(database, key.json["key"])
    await database.close()
    assert principal.organization_id == user.json["organization_id"]
    assert principal.scopes == {Scope.INGEST, Scope.READ}
    connection = await asyncpg.connect(database_url)
    told = await connection.fetch(
        "SELECT action, actor_kind FROM audit_log WHERE object_id = ANY($1)",
        [user.json["id"], key.json["id"]],
    )
    await connection.close()
    assert {tuple(row) for row in told} == {
        ("user.created", "operator"),
        ("password_reset.created", "operator"),
        ("api_key.created", "operator"),
    }


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("user", "create", "no address"), "Email: "),
        (("user", "create", "a@b.example", "--role", "king"), "Role: "),
        (("user", "create", "a@b.example", "--role", "user", "--name", "x" * 201), "Name: "),
    ],
)
def test_what_can_not_be_made_is_a_sentence(
    run_here: RunHere, arguments: tuple[str, ...], problem: str
) -> None:
    ran = run_here(*arguments)

    assert (ran.code, ran.out) == (1, "")
    assert problem in ran.err
    assert "Traceback" not in ran.err


async def test_another_organization_is_named_by_its_id(database_url: str, tmp_path: Path) -> None:
    database = open_database(database_url)
    async with database.unit_of_work(SYSTEM) as session:
        await IdentityRepository(session).add_organization("First")
        second = await IdentityRepository(session).add_organization("Second")
    env = environment(DB_URL=database_url)

    made = await run_ibid(
        "user", "create", "b@example.com", "--organization", second, "--role", "admin", env=env, cwd=tmp_path
    )
    unknown = await run_ibid(
        "user", "create", "c@example.com", "--organization", "org_nowhere", env=env, cwd=tmp_path
    )

    assert made.code == 0, made.err
    assert "POST /auth/password-reset" in made.err
    assert (unknown.code, "There is no such organization" in unknown.err) == (1, True)
    async with database.unit_of_work(SYSTEM) as session:
        user = await AccountRepository(session).find_by_email("b@example.com")
    await database.close()
    assert user is not None
    assert (user.organization_id, user.role) == (second, Role.ADMIN)
