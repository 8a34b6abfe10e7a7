"""The secret key of the service: where it comes from, and what is derived from it.

`SECRET_KEY` is a list, newest first: the first one encrypts and signs, all of them decrypt and verify, so a key can be
replaced without a moment at which something can't be read. With the embedded database, and only there, a key is made
into the data directory at the first start.
"""

import base64
import contextlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.core.config import Settings
from app.core.errors import SecretUnreadable, StartupError

_MINIMUM_CHARACTERS: Final = 32
_FILE: Final = "secret_key"
_HOW_TO: Final = "Make one with `openssl rand -base64 32`, set it as SECRET_KEY and keep it: what it encrypted can't be read without it."


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys derived from each secret key, newest first. One secret never serves two purposes."""

    signing_keys: tuple[bytes, ...] = field(repr=False)
    _cipher: MultiFernet = field(repr=False)

    def encrypt(self, text: str) -> str:
        """The text under the newest key."""
        return self._cipher.encrypt(text.encode()).decode()

    def decrypt(self, encrypted: str) -> str:
        """What `encrypt` was given. Raises SecretUnreadable when none of the keys encrypted it."""
        try:
            return self._cipher.decrypt(encrypted.encode()).decode()
        except InvalidToken as error:
            raise SecretUnreadable from error

    def rotate(self, encrypted: str) -> str:
        """The same text under the newest key. Raises SecretUnreadable."""
        try:
            return self._cipher.rotate(encrypted.encode()).decode()
        except InvalidToken as error:
            raise SecretUnreadable from error


def keyring(secret_keys: str) -> Keyring:
    """The keyring of a comma-separated list of secret keys. Raises StartupError for one that is too short."""
    keys = [key.strip() for key in secret_keys.split(",") if key.strip()]
    if not keys or any(len(key) < _MINIMUM_CHARACTERS for key in keys):
        raise StartupError(
            f"Every key in SECRET_KEY needs {_MINIMUM_CHARACTERS} characters or more. {_HOW_TO}"
        )
    return Keyring(
        tuple(_derive(key, b"ibid access tokens") for key in keys),
        MultiFernet([Fernet(base64.urlsafe_b64encode(_derive(key, b"ibid stored secrets"))) for key in keys]),
    )


def load(settings: Settings) -> Keyring:
    """The keyring of the settings, or of the file beside the embedded database, which the first start makes.

    Blocks on the disk. Raises StartupError with what to do.
    """
    if settings.secret_key is not None:
        return keyring(settings.secret_key.get_secret_value())
    if settings.db_url is not None:
        raise StartupError(f"SECRET_KEY is not set, and with DB_URL it must be. {_HOW_TO}")
    path = settings.data_dir / _FILE
    try:
        if not path.exists():
            _create(path)
        return keyring(path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"The secret key in {path} can't be read or made ({error}).") from error


def _create(path: Path) -> None:
    """Written whole or not at all, and by one process alone, however many start together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was faster: its key is the key
            os.link(draft, path)
    finally:
        draft.unlink()


def _derive(secret_key: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret_key.encode())
