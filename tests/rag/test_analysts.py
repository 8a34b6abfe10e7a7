"""Texts are cut the same wherever it is done, and no process that does it is needed, left behind, or told a secret."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from app.core.chunking import ChunkingPlan, Splitter
from app.core.retrieval import WeighedTerms
from app.rag import analysis, analyst
from app.rag import analysts as analysts_module
from app.rag.analysis import Cut, Task
from app.rag.analysts import Analysts
from app.rag.chunking import Page

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 90.0
ENGLISH = "Unused annual leave lapses on 31 March, and an employee who was ill keeps it; IBAN DE44 5001 0517 5407 3249 31."
SPANISH = "Los días de vacaciones que no se han disfrutado caducan el 31 de marzo del año que viene, según el convenio."
PAGES = [
    Page(1, f"# Leave\n\n{ENGLISH * 9}\n\n# Vacaciones\n\n{SPANISH * 9}"),
    Page(2, " \n"),
    Page(4, "漢字文化圏。" * 90 + "พนักงานสามารถ" * 60 + "e\u0301te\u0301 👨\u200d👩\u200d👧\r\n" * 40),
]
TASKS = {
    "sentences": Task(PAGES, ChunkingPlan(64, 8)),
    "headings": Task(PAGES, ChunkingPlan(64, 0, Splitter.HEADINGS), {1: [(0, 20, 1), (1050, 1070, 2)]}),
    "lines, a title, one language": Task(PAGES, ChunkingPlan(32, 4, Splitter.LINES), None, "de", "Urlaub"),
    "nothing": Task([Page(1, "  ")], ChunkingPlan(64, 8)),
    "long": Task([Page(7, f"{ENGLISH}\n\n{SPANISH}\n\n" * 600)], ChunkingPlan(200, 20)),
}


def plain(cut: Cut) -> object:
    """As what can be compared."""
    terms = [(found.numbers.tolist(), found.weights.tolist()) for found in cut.terms]
    return cut.chunks, cut.chunk_languages, terms


@asynccontextmanager
async def started(most: int = 1) -> AsyncIterator[Analysts]:
    """With as many processes as there can be."""
    analysts = Analysts(most)
    try:
        await wait_for(analysts, most)
        yield analysts
    finally:
        await analysts.aclose()


async def wait_for(analysts: Analysts, count: int) -> None:
    """Until there are so many processes."""
    deadline = time.monotonic() + WAIT_SECONDS
    while len(analysts.pids) < count:
        assert time.monotonic() < deadline
        analysts._start_one_more()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
async def test_a_process_finds_what_a_thread_finds(task: Task) -> None:
    async with started() as analysts:
        process = await analysts._take(1)
        assert process is not None
        assert plain(await process.cut(task)) == plain(analysis.cut(task))


async def test_many_texts_at_once_come_back_each_as_its_own() -> None:
    tasks = [Task([Page(1, f"Number {n}. {ENGLISH * (n % 40)}")], ChunkingPlan(64, 8)) for n in range(60)]
    async with started(2) as analysts:
        found = await asyncio.gather(*map(analysts.cut, tasks))
        assert len(analysts.pids) == 2
    assert [plain(cut) for cut in found] == [plain(analysis.cut(task)) for task in tasks]


async def test_a_killed_process_costs_no_text_and_is_replaced() -> None:
    async with started() as analysts:
        (before,) = analysts.pids
        os.kill(before, signal.SIGSTOP)
        cutting = asyncio.create_task(analysts.cut(TASKS["long"]))
        await asyncio.sleep(0.1)
        os.kill(before, signal.SIGKILL)
        assert plain(await cutting) == plain(analysis.cut(TASKS["long"]))
        await wait_for(analysts, 1)
        assert before not in analysts.pids


async def test_whoever_leaves_takes_no_process_along() -> None:
    async with started() as analysts:
        asked = asyncio.create_task(analysts.cut(TASKS["long"]))
        await asyncio.sleep(0.01)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        pids = analysts.pids
        assert plain(await analysts.cut(TASKS["long"])) == plain(analysis.cut(TASKS["long"]))
        assert analysts.pids == pids


async def test_short_texts_one_by_one_start_no_process() -> None:
    analysts = Analysts(2)
    for task in (TASKS["sentences"], TASKS["headings"]):
        await analysts.cut(task)
    assert analysts.pids == []
    assert analysts._starting is None


async def test_the_first_long_texts_wait_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain(analysis.cut(TASKS["long"]))
    monkeypatch.setattr(analysts_module, "_LONG_WAIT_SECONDS", WAIT_SECONDS)
    monkeypatch.setattr(analysts_module, "_PATIENCE_SECONDS", WAIT_SECONDS)
    monkeypatch.setattr(analysis, "cut", None)
    analysts = Analysts(2)
    try:
        found = await asyncio.gather(*[analysts.cut(TASKS["long"]) for _ in range(3)])
        assert [plain(cut) for cut in found] == [expected] * 3
        assert len(analysts.pids) == 1
    finally:
        await analysts.aclose()


async def test_another_process_is_started_for_a_text_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysts_module, "_LONG_WAIT_SECONDS", WAIT_SECONDS)
    monkeypatch.setattr(analysts_module, "_PATIENCE_SECONDS", 0.01)
    async with started() as analysts:
        analysts._most = 2
        busy = await analysts._take(1)
        assert plain(await analysts.cut(TASKS["long"])) == plain(analysis.cut(TASKS["long"]))
        assert busy is not None
        assert len(analysts.pids) == 2


async def test_a_thread_cuts_at_once_where_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse() -> None:
        await asyncio.sleep(0.01)
        raise OSError

    monkeypatch.setattr(analysts_module, "_LONG_WAIT_SECONDS", 2 * WAIT_SECONDS)
    monkeypatch.setattr(analysts_module._Process, "start", refuse)
    analysts = Analysts(2)
    async with asyncio.timeout(WAIT_SECONDS):
        found = await asyncio.gather(*[analysts.cut(TASKS["long"]) for _ in range(2)])
    assert [plain(cut) for cut in found] == [plain(analysis.cut(TASKS["long"]))] * 2


async def test_a_process_is_nice_and_knows_nothing_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    async with started() as analysts:
        (pid,) = analysts.pids
        process = psutil.Process(pid)
        assert process.nice() > psutil.Process().nice() or process.nice() == 19
        assert set(process.environ()) <= {
            "PATH",
            "LC_ALL",
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "TMPDIR",
        }


async def test_none_is_left_when_all_are_closed() -> None:
    async with started(2) as analysts:
        pids = analysts.pids
    assert not any(map(psutil.pid_exists, pids))


def test_a_process_ends_with_a_parent_that_is_killed() -> None:
    script = """
import asyncio
from app.rag.analysts import Analysts
from tests.rag.test_analysts import wait_for

async def main():
    analysts = Analysts(1)
    await wait_for(analysts, 1)
    print(*analysts.pids, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(WAIT_SECONDS)


def test_a_process_imports_nothing_heavy() -> None:
    heavy = {"llama_index", "fastapi", "sqlalchemy", "asyncpg", "pydantic", "aiohttp", "onnxruntime"}
    script = f"import sys, app.rag.analyst; print(*{heavy!r}.intersection(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True)
    assert finished.stdout.split() == []


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ({}, b""),
        ({"chunks": 1, "languages": [["en", 1]]}, b""),
        ({"chunks": -1, "languages": []}, b""),
        ({"chunks": 1, "languages": [["en", 2]]}, bytes(32)),
        ({"chunks": 1, "languages": [["en", 1]]}, bytes(32)),
    ],
)
def test_an_answer_that_fits_no_text_is_refused(head: dict[str, object], body: bytes) -> None:
    with pytest.raises(analyst.BrokenAnswer):
        analyst.read_answer(TASKS["sentences"], head, body)


def test_terms_are_the_same_as_a_mapping_and_as_columns() -> None:
    mapping = {7: 0.5, 3: 2.0}
    assert WeighedTerms.of(mapping).as_mapping() == mapping
    assert WeighedTerms.of(mapping).numbers.tolist() == [3, 7]
