"""What the README shows works: its commands run, its tables are true."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.config import Settings
from tests.fixtures.service import Service
from tools import write_env_example

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SHELL_BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[list[str]]:
    """The words of the README's commands that begin with this program."""
    text = "\n".join(SHELL_BLOCKS).replace("\\\n", " ")
    split = (shlex.split(block, comments=True) for block in re.split(r"\n(?=\S)", text))
    return [words for words in split if words and words[0] == program]


async def run_curl(words: list[str], service: Service, key: str) -> httpx.Response:
    """The request that a curl command of the README sends."""
    address = next(word for word in words if word.startswith("localhost:8000"))
    headers = dict(words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H")
    headers["Authorization"] = headers["Authorization"].replace("$KEY", key)
    data = next((words[n + 1] for n, word in enumerate(words) if word == "-d"), None)
    parts = [words[n + 1].split("=", 1) for n, word in enumerate(words) if word == "-F"]
    files = [(name, (value[1:], (ROOT / value[1:]).read_bytes())) for name, value in parts if value[0] == "@"]
    fields = {name: value for name, value in parts if value[0] != "@"}
    method = "POST" if data or parts else "GET"
    async with service.client(None) as client:
        url = address.removeprefix("localhost:8000")
        if files:
            return await client.post(url, headers=headers, files=files, data=fields)
        return await client.request(method, url, headers=headers, content=data)


async def test_the_first_conversation_goes_as_shown(service: Service) -> None:
    key, _ = await service.new_key()
    ingest, ask, stream, off_topic, upload, listing = commands("curl")

    assert (await run_curl(ingest, service, key)).json()["status"] == "indexed"
    answer = (await run_curl(ask, service, key)).json()
    streamed = await run_curl(stream, service, key)
    refused = (await run_curl(off_topic, service, key)).json()

    shown: list[dict[str, Any]] = [
        json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    ]
    assert answer["answer"] == shown[1]["answer"]
    assert set(answer) == set(shown[1])
    source, shown_source = answer["sources"][0], shown[1]["sources"][0]
    assert {
        key: source[key] for key in ("title", "source", "page", "start", "end", "snippet", "score", "cited")
    } == {
        key: shown_source[key]
        for key in ("title", "source", "page", "start", "end", "snippet", "score", "cited")
    }
    assert "It measures every machine each second. [1]" in streamed.text
    assert '"session_id":"sess_abc123"' in streamed.text
    assert refused["refused"] is True
    uploaded = (await run_curl(upload, service, key)).json()
    listed = (await run_curl(listing, service, key)).json()
    assert [result["status"] for result in uploaded] == ["uploaded"] * 2
    assert {document["id"] for document in listed} == {result["document_id"] for result in uploaded}
    async with service.client(key) as client:
        assert (await client.post("/search", json=shown[2])).status_code == 200


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    for words in commands("make"):
        dry = subprocess.run(
            ["make", "--dry-run", words[1]], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert dry.returncode == 0, dry.stderr


@pytest.mark.timeout(240)
def test_the_command_line_goes_as_shown(database_url: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "DB_URL": database_url,
        "DATA_DIR": str(tmp_path),
        "OPENAI_API_KEY": "",
        "SECRET_KEY": "k" * 40,
    }
    for words in commands("ibid"):
        program = [str(ROOT / ".venv/bin/ibid"), *words[1:]]
        done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        if words[1] == "ask":
            assert "goes on" in done.stdout


def test_the_settings_table_is_true() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| `?([^|`]*)`? \|", README, re.MULTILINE)
    fields = {write_env_example.environment_name(field): field for field in Settings.model_fields}

    assert len(rows) >= 10
    for name, shown in rows:
        default = write_env_example.default_text(fields[name])
        assert shown.strip() == default or default == "", name


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


async def test_the_routes_shown_are_served(service: Service) -> None:
    async with service.client(None) as client:
        served = (await client.get("/openapi.json")).json()["paths"]
    shown = re.findall(r"`(GET|POST|DELETE) (/[^`]*)`", README)

    assert len(shown) >= 9
    for method, path in shown:
        pattern = re.compile(
            re.sub(r"\{\w+\}", r"{[a-z_]+}", path.replace("{", r"{"))
            .replace("{[", r"\{[")
            .replace("]+}", r"]+\}")
        )
        assert any(
            pattern.fullmatch(known) and method.lower() in methods for known, methods in served.items()
        ), path
