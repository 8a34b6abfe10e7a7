"""The commands as people and scripts run them."""

import asyncio
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg

from app.api.schemas.chat import ChatResponse
from app.api.schemas.search import SearchResponse
from tests.cli.conftest import Library, RunHere, environment, finish, run_ibid, start_ibid
from tests.fixtures.provider import Reply, ScriptedProvider

DEAD_DATABASE = "postgresql://nobody@127.0.0.1:1/nothing"


def test_help_waits_for_no_heavy_import() -> None:
    heavy = "['pydantic', 'sqlalchemy', 'fastapi', 'llama_index', 'numpy', 'onnxruntime']"
    script = f"import sys, app.cli; print([name for name in {heavy} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"


def test_the_version_is_printed(run_here: RunHere) -> None:
    assert re.fullmatch(r"ibid \d+\.\d+\.\d+\n", run_here("--version").out)


async def test_the_first_ingestion_sets_up_the_database_and_shows_the_key(library: Library) -> None:
    assert re.search(r"API key +ibid_\w+", library.first.err)


async def test_ingest_counts_what_became_of_each_file(library: Library) -> None:
    result = library.first.json

    assert (result["indexed"], result["already_there"], result["skipped"], result["failed"]) == (4, 0, 1, 2)
    documents = {document["source"]: document for document in result["documents"]}
    assert documents["policies/leave.md"]["title"] == "Leave policy"
    assert documents["prices.txt"]["encoding"] == "cp1252"
    assert documents["warranty.txt"]["encoding"] == "utf-16"
    assert documents["scan.pdf"]["error_code"] == "corrupt"
    assert documents["program"]["status"] == "skipped"
    assert (documents["menu.html"]["status"], documents["menu.html"]["title"]) == ("indexed", "The menu")
    assert documents["noise.txt"]["error_code"] == "encoding_unknown"
    assert "failed noise.txt: The file is no text" in library.first.err
    assert library.first.code == 1


async def test_ingesting_again_stores_nothing_twice(library: Library) -> None:
    (library.folder / "noise.txt").unlink(missing_ok=True)
    (library.folder / "scan.pdf").unlink(missing_ok=True)

    again = await run_ibid("ingest", str(library.folder), env=library.env, cwd=library.folder)

    assert again.code == 0
    assert re.search(r"│ +0 │ +4 │ +1 │ +0 │ +0 │", again.out)
    assert "API key" not in again.err


async def test_a_changed_file_is_an_update_of_its_document(database_url: str, tmp_path: Path) -> None:
    env = environment(DB_URL=database_url, DATA_DIR=str(tmp_path / "data"))
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, old in (("a.txt", "The code is 1111."), ("b.html", "<p>The price is one euro.</p>")):
        (folder / name).write_text(old)
    first = (await run_ibid("ingest", "folder", "--json", env=env, cwd=tmp_path)).json
    (folder / "a.txt").write_text("The code is 2222.")
    (folder / "b.html").write_text("<p>The price is two euros.</p>")

    second = (await run_ibid("ingest", "folder", "--json", env=env, cwd=tmp_path)).json
    third = (await run_ibid("ingest", "folder", "--json", env=env, cwd=tmp_path)).json

    assert (first["indexed"], second["indexed"], third["already_there"]) == (2, 2, 2)
    ids = [sorted(document["document_id"] for document in run["documents"]) for run in (first, second, third)]
    assert ids[0] == ids[1] == ids[2]
    assert await count_documents(database_url) == 2
    found = (await run_ibid("search", "code price", "--json", env=env, cwd=tmp_path)).json["results"]
    assert {hit["text"] for hit in found} == {"The code is 2222.", "The price is two euros."}


async def test_files_that_come_and_change_are_ingested_while_it_watches(
    database_url: str, tmp_path: Path
) -> None:
    env = environment(DB_URL=database_url, DATA_DIR=str(tmp_path / "data"))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "first.txt").write_text("There from the beginning.")
    process = await start_ibid("ingest", "folder", "--watch", "--json", env=env, cwd=tmp_path)
    await wait_for_documents(database_url)

    (folder / "second.html").write_text("<p>Added while it watches.</p>")
    await wait_for_documents(database_url, at_least=2)
    (folder / "first.txt").write_text("Changed while it watches.")
    await wait_for_text(database_url, "Changed while it watches.")
    process.send_signal(signal.SIGINT)
    ran = await finish(process)

    assert await count_documents(database_url) == 2
    assert (ran.code, ran.json["interrupted"]) == (0, False)
    assert "changed first.txt" in ran.err


def test_without_recursion_only_the_folder_itself_is_read(run_here: RunHere, tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "a.txt").write_text("On the surface.")
    (tmp_path / "folder" / "inner" / "b.txt").write_text("Further down.")

    flat = run_here("ingest", "folder", "--no-recursive", "--dry-run", "--json", DB_URL=DEAD_DATABASE)
    deep = run_here("ingest", "folder", "--dry-run", "--json", DB_URL=DEAD_DATABASE)

    assert (flat.json["readable"], deep.json["readable"]) == (1, 2)


async def test_an_address_that_can_not_be_fetched_fails_and_the_rest_is_ingested(
    database_url: str, tmp_path: Path
) -> None:
    env = environment(DB_URL=database_url, DATA_DIR=str(tmp_path / "data"))
    (tmp_path / "a.txt").write_text("Something to read.")

    ran = await run_ibid("ingest", "a.txt", "http://127.0.0.1/x", "--json", env=env, cwd=tmp_path)

    assert ran.code == 1
    assert (ran.json["indexed"], ran.json["failed"]) == (1, 1)
    assert "failed http://127.0.0.1/x" in ran.err


def test_a_dry_run_stores_nothing_and_needs_no_database(run_here: RunHere, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Something to read.")
    (tmp_path / "blank.txt").write_text(" \n")

    (tmp_path / "no.pdf").write_bytes(b"\x00\x01")

    ran = run_here("ingest", "a.txt", "blank.txt", "no.pdf", "--dry-run", "--json", DB_URL=DEAD_DATABASE)

    assert (ran.json["readable"], ran.json["failed"]) == (1, 2)
    assert "failed no.pdf: This is not a PDF" in ran.err
    assert ran.code == 1


def test_a_path_that_does_not_exist_ingests_nothing(run_here: RunHere) -> None:
    ran = run_here("ingest", "nowhere", DB_URL=DEAD_DATABASE)

    assert ran.err == (
        "ibid: nowhere can't be opened (No such file or directory); nothing was ingested. Check the path.\n"
    )
    assert ran.code == 1


def test_a_collection_that_is_not_there_is_a_sentence(library: Library, run_here: RunHere) -> None:
    ran = run_here("ingest", str(library.folder), "--collection", "col_none", **library.env)

    assert "ibid: There is no such collection. Leave out --collection" in ran.err
    assert ran.code == 1


def test_ask_prints_the_answer_and_what_it_cites(library: Library, run_here: RunHere) -> None:
    ran = run_here("ask", "How long is the warranty of the gateway?", **library.env)

    assert ran.out.startswith("The warranty of the gateway is five years. [1]\n")
    assert re.search(r"│ 1 │ warranty │ warranty.txt │ +1 │ +0–42 │", ran.out)
    assert ran.code == 0


def test_a_refusal_is_said_and_is_no_failure(library: Library, run_here: RunHere) -> None:
    ran = run_here("ask", "Who won the football world cup in 1998?", **library.env)

    assert "Refused" in ran.err
    assert ran.code == 0


def test_ask_as_json_is_the_answer_object_of_the_api(library: Library, run_here: RunHere) -> None:
    question = "How many days of paid leave are there?"

    ran = run_here("ask", question, "--session", "sess_mine", "--json", **library.env)

    answer = ChatResponse.model_validate_json(ran.out, strict=True)
    assert answer.session_id == "sess_mine"
    assert answer.sources[0].source == "policies/leave.md"
    assert answer.sources[0].cited
    assert ran.err == ""


async def test_ask_streams_the_answer_of_the_model(
    database_url: str, provider: ScriptedProvider, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("The warranty is five years.")
    env = environment(
        DB_URL=database_url,
        OPENAI_API_KEY="sk-test",
        OPENAI_BASE_URL=provider.url,
        EMBEDDING_MODEL="scripted",
        MIN_RELEVANCE="0",
    )
    assert (await run_ibid("ingest", "a.txt", env=env, cwd=tmp_path)).code == 0
    provider.default = Reply(pieces=("Five", " \x1b[31myears", " [1]"), pause_seconds=0.3)

    process = await start_ibid("ask", "How long is the warranty?", env=env, cwd=tmp_path)
    assert process.stdout is not None
    first = await process.stdout.read(4)
    still_streaming = provider.open_streams
    rest = await finish(process)

    assert (first, still_streaming) == (b"Five", 1)
    assert rest.out.startswith(" \ufffd[31myears [1]\n")
    assert "a.txt" in rest.out


def test_search_lists_passages_by_rank(library: Library, run_here: RunHere) -> None:
    ran = run_here("search", "warranty of the gateway", "--top-k", "2", **library.env)

    rows = [line for line in ran.out.splitlines() if re.match(r"│ +\d", line)]
    assert [row.split("│")[1].strip() for row in rows] == ["1", "2"]
    assert "The warranty of the gateway is five years." in rows[0]


def test_search_as_json_is_the_object_of_the_api(library: Library, run_here: RunHere) -> None:
    ran = run_here("search", "paid leave", "--top-k", "1", "--json", **library.env)

    (hit,) = SearchResponse.model_validate_json(ran.out).results
    assert hit.source == "policies/leave.md"


def test_nothing_ingested_yet_is_a_sentence(database_url: str, run_here: RunHere) -> None:
    ran = run_here("search", "anything", DB_URL=database_url)

    assert (ran.code, ran.err) == (1, "ibid: Nothing has been ingested yet. Start with: ibid ingest FOLDER\n")


def test_a_dead_database_is_a_sentence(run_here: RunHere) -> None:
    ran = run_here("search", "anything", DB_URL=DEAD_DATABASE)

    assert ran.code == 1
    assert ran.err == (
        "ibid: No PostgreSQL listens at the host and port of DB_URL. Start it, or correct DB_URL.\n"
    )


async def test_an_interrupted_ingestion_keeps_what_is_done_and_says_so(
    database_url: str, tmp_path: Path
) -> None:
    lines = (f'{{"_id": "{n}", "text": "Text number {n}. {"More of it. " * 50}"}}\n' for n in range(20_000))
    (tmp_path / "corpus.jsonl").write_text("".join(lines))
    process = await start_ibid(
        "ingest", "corpus.jsonl", "--json", env=environment(DB_URL=database_url), cwd=tmp_path
    )
    await wait_for_documents(
        database_url, at_least=50
    )  # more than are stored and not yet counted by the command

    process.send_signal(signal.SIGINT)
    ran = await finish(process)

    assert ran.code == 130
    assert "Interrupted." in ran.err
    assert "What is done stays." in ran.err
    assert "Traceback" not in ran.err
    assert ran.json["interrupted"] is True
    assert 0 < ran.json["indexed"] <= await count_documents(database_url) < 20_000


async def wait_for_documents(database_url: str, *, at_least: int = 1) -> None:
    deadline = time.monotonic() + 90
    while await count_documents(database_url) < at_least:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def wait_for_text(database_url: str, text: str) -> None:
    deadline = time.monotonic() + 90
    connection = await asyncpg.connect(database_url)
    while not await connection.fetchval("SELECT count(*) FROM chunks WHERE text = $1", text):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    await connection.close()


async def count_documents(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    count: int = await connection.fetchval("SELECT count(*) FROM documents")
    await connection.close()
    return count
