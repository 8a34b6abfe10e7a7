"""The secret key: where it comes from, how it is replaced, and that nothing starts without it."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.core import crypto
from app.core.errors import SecretUnreadable, StartupError
from tests.fixtures.service import make_settings

OLD, NEW = "o" * 40, "n" * 40


def test_a_text_comes_back_and_is_not_readable_between() -> None:
    keyring = crypto.keyring(NEW)
    encrypted = keyring.encrypt("JBSWY3DP")

    assert "JBSWY3DP" not in encrypted
    assert keyring.decrypt(encrypted) == "JBSWY3DP"
    assert encrypted != keyring.encrypt("JBSWY3DP")


def test_a_new_first_key_reads_what_the_old_one_wrote_and_writes_what_the_old_one_can_not_read() -> None:
    old, both, new = crypto.keyring(OLD), crypto.keyring(f"{NEW}, {OLD}"), crypto.keyring(NEW)
    encrypted = old.encrypt("secret")

    assert both.decrypt(encrypted) == "secret"
    assert new.decrypt(both.rotate(encrypted)) == "secret"
    with pytest.raises(SecretUnreadable):
        old.decrypt(both.rotate(encrypted))
    with pytest.raises(SecretUnreadable):
        new.rotate(encrypted)


def test_a_changed_text_is_refused() -> None:
    keyring = crypto.keyring(NEW)
    encrypted = keyring.encrypt("secret")

    with pytest.raises(SecretUnreadable):
        keyring.decrypt(encrypted[:-2] + ("AA" if encrypted[-2:] != "AA" else "BB"))


def test_one_secret_key_signs_and_encrypts_with_different_keys() -> None:
    keyring = crypto.keyring(NEW)

    assert len(keyring.signing_keys[0]) == 32
    assert NEW.encode() not in keyring.signing_keys
    assert keyring.signing_keys != crypto.keyring(OLD).signing_keys
    assert "n" * 10 not in repr(keyring)


@pytest.mark.parametrize("text", ["short", "x" * 31, f"{NEW},short", ",", " "])
def test_a_short_key_is_refused_with_how_to_make_one(text: str) -> None:
    with pytest.raises(StartupError, match="openssl rand -base64 32"):
        crypto.keyring(text)


def test_with_a_database_url_a_key_must_be_set() -> None:
    settings = make_settings(DB_URL="postgresql://host/db", secret_key=None)

    with pytest.raises(StartupError, match=r"SECRET_KEY is not set.*openssl rand"):
        crypto.load(settings)


def test_the_embedded_database_gets_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    settings = make_settings(data_dir=tmp_path / "data", secret_key=None)

    first = crypto.load(settings)
    again = crypto.load(settings)

    path = tmp_path / "data" / "secret_key"
    assert again.decrypt(first.encrypt("secret")) == "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text()) >= 43
    assert [file.name for file in path.parent.iterdir()] == ["secret_key"]


def test_processes_that_start_together_use_one_key(tmp_path: Path) -> None:
    settings = make_settings(data_dir=tmp_path, secret_key=None)

    with ThreadPoolExecutor(8) as pool:
        keyrings = list(pool.map(lambda _: crypto.load(settings), range(16)))

    assert len({keyring.signing_keys for keyring in keyrings}) == 1


def test_an_empty_key_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch()

    with pytest.raises(StartupError, match="32 characters"):
        crypto.load(make_settings(data_dir=tmp_path, secret_key=None))
