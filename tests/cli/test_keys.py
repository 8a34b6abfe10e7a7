"""`ibid keys rotate`: a new secret key takes over, and the old one can go."""

from pathlib import Path

from app.core import crypto
from app.core.principal import SYSTEM, Role
from app.db.repositories.accounts import AccountRepository
from app.db.repositories.identity import IdentityRepository
from tests.cli.conftest import environment, run_ibid
from tests.fixtures.postgres import open_database

OLD, NEW = "an old secret key of the service 123", "a new secret key of the service 1234"


async def test_rotation_moves_every_secret_to_the_first_key(database_url: str, tmp_path: Path) -> None:
    database = open_database(database_url)
    async with database.unit_of_work(SYSTEM) as session:
        accounts = AccountRepository(session)
        organization_id = await IdentityRepository(session).add_organization("O")
        for number in range(3):
            user = await accounts.add(
                organization_id=organization_id,
                email=f"u{number}@rotate.example",
                name="",
                password_hash="x",
                role=Role.USER,
            )
            assert user is not None
            await accounts.enrol(user.id, crypto.keyring(OLD).encrypt(f"secret {number}"))

    async def rotate(secret_key: str) -> tuple[int | None, str]:
        env = environment(DB_URL=database_url, SECRET_KEY=secret_key)
        ran = await run_ibid("keys", "rotate", env=env, cwd=tmp_path)
        return ran.code, ran.err

    code, message = await rotate(NEW)
    assert code == 1
    assert "can't be decrypted with this SECRET_KEY" in message
    code, message = await rotate(f"{NEW},{OLD}")
    assert (code, message.startswith("3 stored secrets are under the first key now.")) == (0, True)
    assert (await rotate(NEW))[0] == 0

    async with database.unit_of_work(SYSTEM) as session:
        stored = await AccountRepository(session).encrypted_secrets()
    await database.close()
    assert sorted(crypto.keyring(NEW).decrypt(secret) for _, secret in stored) == [
        "secret 0",
        "secret 1",
        "secret 2",
    ]


async def test_without_a_key_the_service_does_not_start_and_makes_nothing(
    database_url: str, tmp_path: Path
) -> None:
    env = environment(DB_URL=database_url, SECRET_KEY="")

    ran = await run_ibid("serve", env=env, cwd=tmp_path)

    assert ran.code == 1
    assert "SECRET_KEY is not set" in ran.err
    assert "openssl rand -base64 32" in ran.err
    assert "Traceback" not in ran.err
    database = open_database(database_url)
    async with database.unit_of_work(SYSTEM) as session:
        assert await IdentityRepository(session).is_empty()
    await database.close()
