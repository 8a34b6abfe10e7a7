"""Settings: the names that operators know, and the file that lists them all."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.core.config import Settings
from tools import write_env_example

NAMES = (
    "OPENAI_API_KEY",
    "DB_URL",
    "EMBEDDING_MODEL",
    "CHAT_MODEL",
    "MAX_HISTORY_MESSAGES",
    "TOP_K_DEFAULT",
    "PORT",
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*NAMES, "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_env_example_is_the_one_that_the_settings_give() -> None:
    written = (write_env_example.ROOT / ".env.example").read_text()

    assert written == write_env_example.render(), "run: python tools/write_env_example.py"


def test_every_setting_is_explained_in_the_env_example() -> None:
    listed = {field for fields in write_env_example.sections().values() for field in fields}

    assert listed == set(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


def test_the_well_known_names_work_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    values = ("sk-1", "postgres://x/y", "text-embedding-3-large", "gpt-4.1", "4", "7", "9000")
    for name, value in zip(NAMES, values, strict=True):
        monkeypatch.setenv(name, value)

    settings = Settings()

    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "sk-1"
    assert settings.db_url is not None
    assert settings.db_url.get_secret_value() == "postgres://x/y"
    assert (settings.embedding_model, settings.chat_model) == ("text-embedding-3-large", "gpt-4.1")
    assert (settings.max_history_messages, settings.top_k_default, settings.port) == (4, 7, 9000)


def test_database_url_is_understood_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://host/db")

    assert Settings().db_url is not None


def test_an_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")

    settings = Settings()

    assert settings.db_url is None
    assert settings.answers_extractively
    assert settings.uses_local_embeddings


def test_a_dotenv_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CHAT_MODEL=from-file\nUNKNOWN_NAME=ignored\n")

    assert Settings().chat_model == "from-file"


def test_settings_do_not_change_and_do_not_show_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("DB_URL", "postgres://user:db-password@host/db")
    settings = Settings()

    assert "sk-very-secret" not in repr(settings)
    assert "db-password" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "0"), ("TOP_K_DEFAULT", "51"), ("CHAT_TEMPERATURE", "nan")]
)
def test_a_value_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError):
        Settings()
