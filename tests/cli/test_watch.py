"""`ibid ingest --watch`: a folder that changes in every way that folders do, while nothing may end the watch but Ctrl-C."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.services import folders
from tests.cli.conftest import Ran, environment, start_ibid
from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.provider import ScriptedProvider

PATIENCE_SECONDS = 120


@dataclass
class Watch:
    """A watch under way, and what it has said so far; `ran` once it has ended."""

    process: asyncio.subprocess.Process
    said: str = ""
    ran: Ran | None = field(default=None)

    async def until(self, text: str) -> None:
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while text not in self.said:
                line = await self.process.stderr.readline()
                assert line, f"it ended before it said {text!r}: {self.said}"
                self.said += line.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


@asynccontextmanager
async def watching(tmp_path: Path, database_url: str, *paths: str, **settings: str) -> AsyncIterator[Watch]:
    env = environment(DB_URL=database_url, DATA_DIR=str(tmp_path / "data"), **settings)
    process = await start_ibid("ingest", *(paths or ("folder",)), "--watch", "--json", env=env, cwd=tmp_path)
    watch = Watch(process)
    try:
        await watch.until("Watching for changes")
        yield watch
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        watch.said += err.decode()
        watch.ran = Ran(process.returncode, out.decode(), watch.said)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_folder_that_goes_away_and_comes_back_is_watched_on(
    make_database: MakeDatabase, tmp_path: Path, folder: Path
) -> None:
    (folder / "a.txt").write_text("There from the beginning.")
    (tmp_path / "alone.txt").write_text("Named by itself.")

    async with watching(tmp_path, await make_database(), "folder", "alone.txt") as watch:
        folder.rename(tmp_path / "elsewhere")
        (tmp_path / "alone.txt").unlink()
        await watch.until("waiting for alone.txt")
        await watch.until("waiting for folder") if "waiting for folder" not in watch.said else None
        (tmp_path / "alone.txt").write_text("Written anew, as editors do.")
        await watch.until("changed alone.txt")
        (tmp_path / "elsewhere" / "b.txt").write_text("Added meanwhile.")
        (tmp_path / "elsewhere").rename(folder)
        await watch.until("changed b.txt")

    assert watch.ran is not None
    assert "gone a.txt" not in watch.said
    assert (watch.ran.code, watch.ran.json["failed"]) == (0, 0)


async def test_what_is_removed_renamed_or_can_not_be_read_is_told_as_it_happens(
    make_database: MakeDatabase, tmp_path: Path, folder: Path
) -> None:
    (folder / "a.txt").write_text("There from the beginning.")
    (folder / "b.txt").write_text("This one will be renamed.")

    async with watching(tmp_path, await make_database()) as watch:
        (folder / "a.txt").unlink()
        (folder / "b.txt").rename(folder / "c.txt")
        (folder / "bad.pdf").write_bytes(b"%PDF-1.7\nbroken")
        (folder / "dangling.txt").symlink_to(tmp_path / "nowhere")
        await watch.until("failed bad.pdf")
        await watch.until("changed c.txt") if "changed c.txt" not in watch.said else None

    assert watch.ran is not None
    assert watch.said.count("gone a.txt") == watch.said.count("gone b.txt") == 1
    assert watch.said.count("failed dangling.txt: It can't be opened") >= 1
    assert (watch.ran.code, watch.ran.json["failed"], watch.ran.json["already_there"]) == (1, 2, 1)
    assert "changed bad.pdf" not in watch.said


async def test_what_failed_because_a_provider_was_away_is_tried_again(
    make_database: MakeDatabase, tmp_path: Path, folder: Path, provider: ScriptedProvider
) -> None:
    settings = {
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": provider.url,
        "EMBEDDING_MODEL": "scripted-embedding",
        "PROVIDER_MAX_RETRIES": "0",
    }
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"There from the beginning, number {number}.")

    async with watching(tmp_path, await make_database(), **settings) as watch:
        provider.models_away.add("scripted-embedding")
        for number in range(6):
            (folder / f"{number}.txt").write_text(f"Changed while the provider is away, number {number}.")
        await watch.until("trying again in")
        provider.models_away.clear()
        for number in range(6):
            if f"changed {number}.txt" not in watch.said:
                await watch.until(f"changed {number}.txt")

    assert watch.ran is not None
    assert (watch.ran.code, watch.ran.json["failed"], watch.ran.json["indexed"]) == (0, 0, 12)


def test_files_that_have_not_changed_are_not_opened_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.html").write_text("<p>One</p>")
    (folder / "b.html").write_text("<p>Two</p>")
    before = folders.find([folder])
    opened: list[str] = []
    real = folders._why_skipped

    def noted(path: Path, mode: int, *, named: bool) -> str | None:
        opened.append(path.name)
        return real(path, mode, named=named)

    monkeypatch.setattr(folders, "_why_skipped", noted)
    (folder / "b.html").write_text("<p>Another</p>")

    now = folders.find([folder], known={file.path: file for file in before.files})

    assert opened == ["b.html"]
    assert [file.source for file in now.files] == ["a.html", "b.html"]


def test_a_file_that_somebody_is_allowed_to_read_has_changed(folder: Path) -> None:
    (folder / "a.txt").write_text("text")
    (before,) = folders.find([folder]).files

    (folder / "a.txt").chmod(0o600)

    (now,) = folders.find([folder]).files
    assert now.changed_ns > before.changed_ns
