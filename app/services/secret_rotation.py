"""The step after SECRET_KEY got a new first key: everything encrypted moves to it, and the old one can be dropped."""

from collections.abc import Mapping
from typing import Any

from app.core.audit import Action
from app.core.crypto import Keyring
from app.core.principal import SYSTEM
from app.db.engine import Database
from app.db.repositories.accounts import AccountRepository
from app.db.repositories.bots import BotSecretsRepository
from app.services import audit


async def rotate(database: Database, keyring: Keyring) -> int:
    """Encrypt every stored secret under the newest key; returns how many there are.

    All or none: raises SecretUnreadable when the keyring lacks the key of one of them, and then changes nothing.
    """
    async with database.unit_of_work(SYSTEM) as session:
        accounts = AccountRepository(session)
        secrets = await accounts.encrypted_secrets()
        for user_id, old in secrets:
            await accounts.replace_secret(user_id, old=old, new=keyring.rotate(old))
        versions = BotSecretsRepository(session)
        of_bots = await versions.all()
        for version_id, old_secrets in of_bots:
            await versions.replace(version_id, old=old_secrets, new=_rotated(keyring, old_secrets))
        count = len(secrets) + sum(len(held) for _, held in of_bots)
        await audit.record(
            session,
            Action.SECRETS_ROTATED,
            organization_id=None,
            object_type="secret_key",
            after={"secrets": count},
        )
    return count


def _rotated(keyring: Keyring, secrets: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a bot's version, each under the newest key."""
    return {place: {**key, "encrypted": keyring.rotate(key["encrypted"])} for place, key in secrets.items()}
