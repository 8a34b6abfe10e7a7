"""The commands of docs/operating.md do what it says, in its order; its settings and links are there."""

import asyncio
import re
import shlex
from pathlib import Path

import httpx

from app.core.config import Settings
from app.core.principal import Role
from tests.fixtures.accounts import new_person
from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.service import Service, make_settings, running
from tests.fixtures.uploads import found, upload

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "operating.md").read_text(encoding="utf-8")
PATIENCE_SECONDS = 90


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


async def run(words: list[str], service: Service, names: dict[str, str]) -> httpx.Response:
    for name, value in names.items():
        words = [word.replace(f"${name}", value) for word in words]
    address = next(word for word in words if word.startswith("localhost:8000"))
    headers = dict(words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H")
    data = next((words[n + 1] for n, word in enumerate(words) if word == "-d"), None)
    method = next((words[n + 1] for n, word in enumerate(words) if word == "-X"), "GET")
    async with service.client(None) as client:
        url = address.removeprefix("localhost:8000")
        return await client.request(method, url, headers=headers, content=data)


async def test_the_commands_do_what_the_page_says(make_database: MakeDatabase) -> None:
    settings = make_settings(DB_URL=await make_database(), index_keep_seconds=2)
    async with running(settings) as service:
        key, organization_id = await service.new_key()
        person = await new_person(service, Role.SUPERADMIN, organization_id=organization_id)
        async with service.client(key) as client:
            document_id = await upload(client, b"The pump is serviced in May.")
            names = {"KEY": key, "TOKEN": person.access_token, "DOCUMENT": document_id}
            for words in commands():
                response = await run(words, service, names)
                if words[1:3] == ["-X", "DELETE"]:  # it may have been quicker than we
                    assert response.status_code in (200, 409), response.text
                else:
                    assert response.status_code in (200, 202), (words, response.text)
                if "rebuild" in str(response.url) and words[1] != "-X":
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        while response.json()["state"] == "running":
                            await asyncio.sleep(0.1)
                            response = await run(words, service, names)
                    assert response.json()["state"] in ("switched", "completed")
            assert [hit["text"] for hit in await found(client, "pump")] == ["The pump is serviced in May."]

    assert len(commands()) == 9


def test_every_setting_that_the_page_names_is_one() -> None:
    settings = {name.upper() for name in Settings.model_fields}

    named = {name.partition("=")[0] for name in re.findall(r"`([A-Z][A-Z_]{5,}(?:=[^`]*)?)`", PAGE)}

    assert named
    assert named <= settings
