"""What docs/bots.md shows works: its requests in their order, its settings, its commands."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.fixtures.service import Service
from tests.fixtures.variants import client_of, variant

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "bots.md").read_text()


def commands(program: str) -> list[list[str]]:
    """The words of the page's commands that begin with this program."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    split = (shlex.split(line) for line in text.splitlines())
    return [words for words in split if words and words[0] == program]


async def send(client: httpx.AsyncClient, words: list[str], bot_id: str) -> httpx.Response:
    words = [word.replace("$BOT", bot_id) for word in words]
    path = next(word for word in words if word.startswith("localhost:8000")).removeprefix("localhost:8000")
    headers = dict(words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H")
    headers.pop("Authorization")
    data = next((words[n + 1] for n, word in enumerate(words) if word == "-d"), None)
    method = words[words.index("-X") + 1] if "-X" in words else "POST" if data else "GET"
    return await client.request(method, path, headers=headers, content=data)


async def test_the_requests_go_as_shown(service: Service) -> None:
    key, _ = await service.new_key()
    async with service.client(key) as client:
        create, *others = commands("curl")
        made = await send(client, create, "")
        answers = [await send(client, words, made.json()["id"]) for words in others]

    assert made.status_code == 201, made.text
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 200, 200, 200, 201]
    asked, tried, changed, versions, diff, restored, statistics, bound = (answer.json() for answer in answers)
    assert asked["refused"] is True
    assert tried["ok"] is False
    assert (changed["version"], restored["version"]) == (2, 3)
    assert [version["number"] for version in versions] == [2, 1]
    assert [difference["field"] for difference in diff["differences"]] == ["persona"]
    assert statistics["total"]["turns"] == 1
    assert bound["bot_id"] == changed["id"]


async def test_the_settings_shown_make_bots(service: Service) -> None:
    shown = [
        json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    ]
    key, _ = await service.new_key()
    async with client_of(variant(service, provider_networks="192.168.1.0/24"), token=key) as client:
        for body in shown:
            if "api_key" in body:
                body["api_key"] = body["api_key"].replace("…", "x" * 20)
            made = await client.post("/bots", json=body)
            assert made.status_code == 201, (body, made.text)

    assert len(shown) == 4


def test_every_field_of_the_table_exists(service: Service) -> None:
    known = service.app.openapi()["components"]["schemas"]["CreateBotRequest"]["properties"].keys()
    table = PAGE.split("## What else it has")[1].split("##")[0]
    named = {name for row in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}  # fmt: skip

    assert len(named) >= 8
    assert named <= known


@pytest.mark.timeout(240)
def test_the_command_line_goes_as_shown(database_url: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "DB_URL": database_url,
        "DATA_DIR": str(tmp_path),
        "OPENAI_API_KEY": "",
        "SECRET_KEY": "k" * 40,
    }

    def run(*words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        program = [str(ROOT / ".venv/bin/ibid"), *words]
        return subprocess.run(
            program, cwd=ROOT, env=environment, input=given, capture_output=True, text=True, check=False
        )

    for words in commands("ibid"):
        done = run(*words[1:])
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert "Reading room" in done.stdout
    options = ("--provider", "openai-compatible", "--model", "m", "--base-url", "http://127.0.0.1:9/v1")
    made = run("bot", "create", "Nearby", *options, "--key-from", "-", given="sk-secret-of-the-bot\n")
    tried = run("bot", "try", "Nearby")
    unknown = run("bot", "try", "Nobody")

    assert made.returncode == 0, made.stderr
    assert (tried.returncode, unknown.returncode) == (1, 1)
    assert "can't be reached" in tried.stdout
    assert "There is no such bot" in unknown.stderr
    assert "sk-secret" not in made.stdout + made.stderr + tried.stdout + tried.stderr
