"""The files that deploy Ibid say what the code does: its routes, its commands, its settings."""

import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import yaml  # type: ignore[import-untyped]
from pydantic import AliasChoices, SecretStr

from app.cli import app as command_line
from app.core.config import Settings
from app.main import create_app
from tests.fixtures.service import make_settings

ROOT: Final = Path(__file__).resolve().parents[1]
FILES: Final = ("Dockerfile", ".dockerignore", "railway.toml", "compose.yaml", "docs/deploy.md")
NOT_SETTINGS: Final = {
    # PostgreSQL, its image and its client
    "POSTGRES_PASSWORD", "POSTGRES_USER", "POSTGRES_DB", "PGPASSWORD",
    # Railway
    "RAILWAY_SHM_SIZE_BYTES", "ON_FAILURE",
    # What object stores are reached with
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT",
    # Compose, Python, onnxruntime
    "BIND_ADDRESS", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "ORT_DISABLE_TELEMETRY",
}  # fmt: skip


def read(name: str) -> str:
    return (ROOT / name).read_text()


def settings_names() -> set[str]:
    names = set()
    for field, info in Settings.model_fields.items():
        alias = info.validation_alias
        names |= (
            {str(choice) for choice in alias.choices} if isinstance(alias, AliasChoices) else {field.upper()}
        )
    return names


def secret_names() -> set[str]:
    fields = {name for name, info in Settings.model_fields.items() if SecretStr in get_args(info.annotation)}
    assert {"openai_api_key", "superadmin_password", "db_url"} <= fields
    return {name.upper() for name in fields} | {"DATABASE_URL", "POSTGRES_PASSWORD", "PGPASSWORD"}


def route_paths() -> set[str]:
    return set(create_app(make_settings()).openapi()["paths"])


def command_of(words: list[str]) -> str:
    """The subcommand of `ibid ...`; fails where it has none of that name."""
    assert words[0] == "ibid"
    names = {str(command.name) for command in command_line.registered_commands}
    names |= {str(group.name) for group in command_line.registered_groups}
    assert words[1] in names, f"there is no `ibid {words[1]}`"
    return words[1]


# --- Dockerfile -------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = "\n".join(line for line in read("Dockerfile").splitlines() if not line.lstrip().startswith("#"))
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line)]


def last(name: str) -> str:
    return [rest for instruction, rest in instructions() if instruction == name][-1]


def copied_from_the_repository() -> list[str]:
    words = [shlex.split(rest) for name, rest in instructions() if name in {"COPY", "ADD"}]
    return [source for line in words if not line[0].startswith("--from=") for source in line[:-1]]


def docker_leaves_out(path: str) -> bool:
    """Docker's rule: the last pattern that matches the path, or a folder above it, decides."""
    parents = ["/".join(path.split("/")[: depth + 1]) for depth in range(path.count("/") + 1)]
    left_out = False
    for line in read(".dockerignore").splitlines():
        pattern = line.strip().lstrip("!")
        if not pattern or pattern.startswith("#"):
            continue
        anywhere = pattern.removeprefix("**/")
        names = [part.split("/")[-1] for part in parents] if anywhere != pattern else parents
        if any(
            fnmatch(name, anywhere) and (anywhere == "*" or name.count("/") == anywhere.count("/"))
            for name in names
        ):
            left_out = not line.startswith("!")
    return left_out


def test_the_image_copies_only_what_exists_and_what_dockerignore_lets_in() -> None:
    sources = copied_from_the_repository()

    assert {"requirements.lock", "pyproject.toml", "alembic.ini", "alembic", "app"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not docker_leaves_out(source), source
    assert not docker_leaves_out("alembic/versions/0001_foundation.py")
    assert not docker_leaves_out("app/rag/assets/minilm.onnx")


@pytest.mark.parametrize(
    "path",
    [".env", ".env.local", "app/.env", ".git/config", ".venv/bin/python", ".data/postgres/PG_VERSION",
     "tests/conftest.py", "ibid.dump", "app/core/__pycache__/config.cpython-313.pyc", "web/node_modules/x.js"],
)  # fmt: skip
def test_secrets_data_and_rubbish_stay_out_of_the_build(path: str) -> None:
    assert docker_leaves_out(path)


def test_the_image_holds_every_file_that_migrations_look_for() -> None:
    from app.db import migrations

    assert migrations._ROOT == ROOT
    assert {"alembic", "alembic.ini", "app"} <= set(copied_from_the_repository())
    assert last("WORKDIR") == "/app"
    assert "COPY --from=build /app /app" in read("Dockerfile")
    assert "--editable" in read(
        "Dockerfile"
    )  # otherwise app/ would run from site-packages, without alembic/ beside it


def test_the_image_installs_exactly_what_the_lock_says() -> None:
    install = next(rest for name, rest in instructions() if name == "RUN" and "requirements.lock" in rest)

    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(install.split())


def test_the_image_runs_as_a_numbered_user_that_is_not_root() -> None:
    order = [name for name, _ in instructions()]
    user = last("USER").split(":")[0]

    assert user.isdecimal()
    assert int(user) > 0
    assert f"--uid {user} " in last("RUN")
    assert f"--owner {user} " in last("RUN")
    assert "RUN" not in order[order.index("USER") :]


def test_the_image_starts_ibid_itself_so_that_signals_reach_it() -> None:
    assert command_of(json.loads(last("CMD"))) == "serve"
    assert "ENTRYPOINT" not in dict(instructions())  # Railway's pre-deploy command names the whole command


def test_the_image_builds_on_railway_too() -> None:
    assert "VOLUME" not in dict(instructions())
    assert "--mount=type=cache" not in read("Dockerfile")


def test_both_stages_stand_on_the_same_python_that_the_project_supports() -> None:
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    version = re.search(r"^ARG PYTHON=(3)\.(\d+)-slim", read("Dockerfile"), re.MULTILINE)
    minimum = re.match(r">=3\.(\d+)$", tomllib.loads(read("pyproject.toml"))["project"]["requires-python"])

    assert bases == ["python:${PYTHON}"] * 2
    assert version
    assert minimum
    assert int(version[2]) >= int(minimum[1])


def test_the_image_sets_only_what_is_known_and_the_port_is_the_default_one() -> None:
    values = dict(
        word.split("=", 1) for name, rest in instructions() if name == "ENV" for word in shlex.split(rest)
    )

    assert last("EXPOSE") == str(Settings.model_fields["port"].default)
    assert values["ORT_DISABLE_TELEMETRY"] == "1"
    assert values["DATA_DIR"] == "/data"
    assert "/data" in last("RUN")
    unknown = set(values) - settings_names() - NOT_SETTINGS - {"PATH"}
    assert {name for name in unknown if not name.startswith("PIP_")} == set()


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    """A server that answers everything with this status; its port, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()


def health_check(port: int) -> int:
    words = json.loads(last("HEALTHCHECK").partition(" CMD ")[2])
    assert words[0] == "python"
    return subprocess.run(
        [sys.executable, *words[1:]], env={"PORT": str(port)}, capture_output=True, timeout=30, check=False
    ).returncode


def test_the_health_check_of_the_image_asks_a_real_route_and_believes_only_200() -> None:
    with answering(200) as (port, asked):
        assert health_check(port) == 0
    with answering(503) as (failing, _):
        assert health_check(failing) == 1
    assert health_check(port) == 1  # nobody listens there any more
    assert set(asked) <= route_paths()


# --- Railway ----------------------------------------------------------------------------------------------------------


def test_railway_checks_a_real_route_and_migrates_by_a_real_command() -> None:
    railway = tomllib.loads(read("railway.toml"))
    deploy = railway["deploy"]

    assert railway["build"]["builder"] == "DOCKERFILE"
    assert (ROOT / railway["build"]["dockerfilePath"]).is_file()
    assert deploy["healthcheckPath"] in route_paths()
    assert [command_of(shlex.split(command)) for command in deploy["preDeployCommand"]] == ["migrate"]
    assert deploy["restartPolicyType"] == "ON_FAILURE"
    # Railway takes numbers only, and kills at once where draining is not set.
    for name in ("healthcheckTimeout", "restartPolicyMaxRetries", "drainingSeconds"):
        assert type(deploy[name]) is int
    assert deploy["drainingSeconds"] > Settings.model_fields["shutdown_timeout_seconds"].default


# --- Compose ----------------------------------------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(read("compose.yaml"))
    return loaded


def seconds(duration: str) -> int:
    return int(re.fullmatch(r"(\d+)s", duration)[1])  # type: ignore[index]


def test_compose_gives_the_application_only_settings_that_exist() -> None:
    environment = compose()["services"]["app"]["environment"]

    assert set(environment) - settings_names() == {"PGPASSWORD"}
    for name, value in environment.items():
        variable = re.fullmatch(r"\$\{(\w+):-\}", value)
        assert variable is None or variable[1] == name, name


def test_compose_has_no_password_of_its_own_and_refuses_to_start_without_one() -> None:
    services = compose()["services"]
    given = [services["app"]["environment"]["PGPASSWORD"], services["db"]["environment"]["POSTGRES_PASSWORD"]]

    assert all(re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?[^}]+\}", value) for value in given)
    assert "@" in services["app"]["environment"]["DB_URL"]
    assert ":" not in services["app"]["environment"]["DB_URL"].partition("://")[2].partition("@")[0]


def test_compose_connects_the_application_to_the_database_that_it_starts() -> None:
    services = compose()["services"]
    database = services["db"]["environment"]

    assert services["app"]["environment"]["DB_URL"] == (
        f"postgresql://{database['POSTGRES_USER']}@db:5432/{database['POSTGRES_DB']}"
    )
    assert services["app"]["depends_on"]["db"]["condition"] == "service_healthy"
    check = services["db"]["healthcheck"]["test"]
    assert check[check.index("--username") + 1] == database["POSTGRES_USER"]
    assert check[check.index("--dbname") + 1] == database["POSTGRES_DB"]
    assert services["app"]["ports"][0].endswith(f":{services['app']['environment']['PORT']}")


def test_compose_pins_a_database_that_ibid_accepts_and_keeps_its_data() -> None:
    from app.db.engine import MINIMUM_PGVECTOR, MINIMUM_POSTGRES

    database = compose()["services"]["db"]
    tag = re.fullmatch(r"pgvector/pgvector:(\d+)\.(\d+)\.(\d+)-pg(\d+)-trixie", database["image"])

    assert tag
    assert (int(tag[1]), int(tag[2])) >= MINIMUM_PGVECTOR
    assert int(tag[4]) >= max(MINIMUM_POSTGRES, 18)  # the folder of the volume is the one of 18 and newer
    volume, _, folder = database["volumes"][0].partition(":")
    assert volume in compose()["volumes"]
    assert folder == "/var/lib/postgresql"


def test_compose_gives_streams_time_to_end_and_index_builds_shared_memory() -> None:
    services = compose()["services"]
    assert (
        seconds(services["app"]["stop_grace_period"])
        > Settings.model_fields["shutdown_timeout_seconds"].default
    )
    built_in = Settings.model_fields["index_build_memory_mb"].default
    assert int(services["db"]["shm_size"].removesuffix("m")) > built_in
    assert all(service["restart"] == "unless-stopped" for service in services.values())


def test_compose_gives_the_application_one_place_to_write_to_and_no_privileges() -> None:
    application = compose()["services"]["app"]

    assert application["read_only"] is True
    assert application["tmpfs"] == ["/tmp"]
    assert application["cap_drop"] == ["ALL"]
    assert application["security_opt"] == ["no-new-privileges:true"]
    assert application["volumes"] == ["data:/data"]  # where files arrive, and stay


# --- The guide, and all of them ---------------------------------------------------------------------------------------


def test_every_environment_name_in_the_deployment_files_is_a_setting() -> None:
    known = settings_names() | NOT_SETTINGS
    for name in ("railway.toml", "compose.yaml", "docs/deploy.md"):
        text = read(name)
        words = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text))
        words |= set(re.findall(r"(?:^|[\s`{])([A-Z][A-Z0-9_]+)(?:=|:[-?])", text, re.MULTILINE))

        assert words - known == set(), name
        assert words & settings_names(), name


def test_every_command_in_the_guide_exists() -> None:
    blocks = re.findall(
        r"`ibid ([a-z]+)|^ibid ([a-z]+)|app ibid ([a-z]+)|bin/ibid ([a-z]+)",
        read("docs/deploy.md"),
        re.MULTILINE,
    )
    names = {name for block in blocks for name in block if name}

    assert {"migrate", "serve", "doctor"} <= names
    for name in names:
        command_of(["ibid", name])


def test_every_route_in_the_guide_exists() -> None:
    named = set(re.findall(r"(?:GET|POST) (/[a-z/]+)", read("docs/deploy.md")))

    assert {"/health", "/health/ready", "/ingest"} <= named
    assert named <= route_paths()


def test_every_file_that_the_guide_names_exists() -> None:
    text = read("docs/deploy.md")

    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / "docs" / link).exists(), link
    for path in re.findall(r"`(alembic/versions/)`|`(\d{4}_\w+\.py)`", text):
        folder, migration = path
        assert (ROOT / (folder or f"alembic/versions/{migration}")).exists(), path


def test_the_guide_stops_ibid_later_than_its_streams() -> None:
    limits = re.findall(r"--stop-timeout (\d+)|^TimeoutStopSec=(\d+)", read("docs/deploy.md"), re.MULTILINE)

    assert len(limits) == 2
    for limit in limits:
        assert int("".join(limit)) > Settings.model_fields["shutdown_timeout_seconds"].default


def test_the_proxy_of_the_guide_lets_the_largest_text_through() -> None:
    largest_body = 2 * int(Settings.model_fields["ingest_max_text_bytes"].default) + 1_000_000
    allowed = re.search(r"client_max_body_size (\d+)m;", read("docs/deploy.md"))

    assert allowed
    assert int(allowed[1]) * 1024 * 1024 >= largest_body


@pytest.mark.parametrize("name", FILES)
def test_there_are_no_secrets(name: str) -> None:
    text = read(name)

    assert not re.search(
        r"sk-[A-Za-z0-9]{8}|AKIA[0-9A-Z]{16}|ghp_\w{20}|-----BEGIN|ibid_[0-9a-f]{8,}_\w{16}", text
    )
    assert not re.search(r"postgres(?:ql)?://[^\s:@/]+:[^\s@{$]+@", text)
    for secret in secret_names():
        for value in re.findall(rf"\b{secret}(?:=|: )([^\s\"`#]+)", text):
            assert value.startswith(("$", "...", "sk-...", "postgresql://ibid@db")), (secret, value)
