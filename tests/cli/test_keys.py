"""`ibid keys rotate`: a new secret key takes over, and the old one can go."""

from pathlib import Path

from app.core import bot_settings, crypto
from app.core.bot_settings import Place, StoredKey
from app.core.bots import BotSettings, ModelSettings, Provider
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.db.engine import Database
from app.db.repositories.accounts import AccountRepository
from app.db.repositories.bots import BotRepository, BotSecretsRepository, BotVersionRepository
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
    version_id = await add_bot(database, organization_id)

    async def rotate(secret_key: str) -> tuple[int | None, str]:
        env = environment(DB_URL=database_url, SECRET_KEY=secret_key)
        ran = await run_ibid("keys", "rotate", env=env, cwd=tmp_path)
        return ran.code, ran.err

    code, message = await rotate(NEW)
    assert code == 1
    assert "can't be decrypted with this SECRET_KEY" in message
    code, message = await rotate(f"{NEW},{OLD}")
    assert (code, message.startswith("5 stored secrets are under the first key now.")) == (0, True)
    assert (await rotate(NEW))[0] == 0

    async with database.unit_of_work(SYSTEM) as session:
        stored = await AccountRepository(session).encrypted_secrets()
        ((found_id, of_bot),) = await BotSecretsRepository(session).all()
    await database.close()
    assert found_id == version_id
    keys = {place: crypto.keyring(NEW).decrypt(key["encrypted"]) for place, key in of_bot.items()}
    assert keys == {"model": "key of model", "reranker": "key of reranker"}
    assert of_bot["model"]["hint"] == "odel"
    assert sorted(crypto.keyring(NEW).decrypt(secret) for _, secret in stored) == [
        "secret 0",
        "secret 1",
        "secret 2",
    ]


async def add_bot(database: Database, organization_id: str) -> str:
    """A bot with two keys; the id of its version."""
    principal = Principal(PrincipalKind.OPERATOR, "op", organization_id, Role.ADMIN, ALL_SCOPES)
    keys = {
        place: StoredKey(crypto.keyring(OLD).encrypt(f"key of {place}"), hint=str(place)[-4:])
        for place in Place
    }
    settings = BotSettings(ModelSettings(Provider.OPENAI, "m"))
    async with database.unit_of_work(principal) as session:
        made = await BotRepository(session, principal).add({"name": "B"})
        version = await BotVersionRepository(session, principal).add(
            made.id,
            1,
            settings=bot_settings.to_json(settings),
            secrets=bot_settings.keys_to_json(keys),
            note="",
        )
        version_id: str = version.id
    return version_id


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
