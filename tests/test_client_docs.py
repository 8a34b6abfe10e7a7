"""What docs/openai.md and docs/mcp.md show works: their commands and programs run as they stand there."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.service import Service
from tests.test_readme import run_curl

DOCS = Path(__file__).resolve().parents[1] / "docs"
FACTS = "The EMS measures every machine each second. The warranty of the EMS is five years."


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


async def key_with_a_document(service: Service) -> tuple[str, str]:
    """A key of an organization that has a document, and the document's collection."""
    key, _ = await service.new_key()
    async with service.client(key) as client:
        body = {"text": FACTS, "title": "EMS", "source": "https://ems.example/brochure"}
        assert (await client.post("/ingest", json=body)).status_code == 200
        collection_id: str = (await client.get("/collections")).json()[0]["id"]
    return key, collection_id


async def test_the_commands_for_openais_api_go_as_shown(service: Service) -> None:
    key, _ = await key_with_a_document(service)
    text = "\n".join(blocks("openai.md", "sh")).replace("\\\n", " ")
    ask, models = [shlex.split(block) for block in re.split(r"\n(?=\S)", text.strip())]

    answer = await run_curl(ask, service, key)
    listed = await run_curl(models, service, key)

    assert answer.json()["choices"][0]["message"]["content"] == "The warranty of the EMS is five years. [1]"
    assert answer.json()["citations"] == ["https://ems.example/brochure"]
    assert "ibid" in [model["id"] for model in listed.json()["data"]]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("openai.md", ["five years. [1]", "EMS https://ems.example/brochure", "CompletionUsage(", FACTS]),
        ("mcp.md", ["five years. [1]", "ibid://documents/doc_"]),
    ],
)
async def test_the_programs_go_as_shown(service: Service, page: str, expected: list[str]) -> None:
    key, collection_id = await key_with_a_document(service)
    (program,) = blocks(page, "python")
    program = program.replace("http://localhost:8000", service.url).replace("COLLECTION_ID", collection_id)

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", f"KEY = {key!r}\n{program}"],
        env={name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr
    for piece in expected:
        assert piece in done.stdout
