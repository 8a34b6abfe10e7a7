"""The child that parses a file: what it can't do, and what its end costs."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

import app
from app.rag.parsing.fence import parse_file
from app.rag.parsing.model import MEBIBYTE, FailureCode, ParseFailed, ParseLimits
from tests.fixtures.files import make_pdf

_ROOT: Final = Path(app.__file__).parents[1]
_ON_LINUX: Final = pytest.mark.skipif(
    sys.platform != "linux", reason="Landlock and seccomp are parts of Linux"
)
_ENCLOSED: Final = """
import json, os, socket, subprocess, sys
sys.path.insert(0, {root!r})
from app.rag.parsing import confinement
confinement.limit_resources(memory_bytes=400 << 20, cpu_seconds=5, most_cpu_seconds=7)
held = confinement.enclose([{root!r} + "/app", os.path.dirname(os.__file__), {readable!r}], program=None)

def outcome(action):
    try:
        return repr(action())
    except BaseException as error:
        return type(error).__name__

def memory():
    return len(bytearray(800 << 20))

def raw(name, *arguments):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    return getattr(libc, name)(*arguments)

print(json.dumps({{"held": held, **{{name: outcome(action) for name, action in dict(
    readable=lambda: open({readable!r}).read(),
    other_file=lambda: open({other!r}).read(),
    environment_of_parent=lambda: open(f"/proc/{{os.getppid()}}/environ").read(),
    password_file=lambda: open("/etc/passwd").read(),
    write=lambda: open({folder!r} + "/new", "w").write("x" * 100),
    tcp=lambda: socket.create_connection(("127.0.0.1", {port}), timeout=5),
    raw_socket=lambda: raw("socket", 2, 1, 0),
    udp=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", {port})),
    names=lambda: socket.getaddrinfo("localhost", 80),
    fork=lambda: raw("fork"),
    system=lambda: raw("system", b"true"),
    process=lambda: subprocess.run(["true"]),
    kill_parent=lambda: raw("kill", os.getppid(), 0),
    memory=memory,
    thread=lambda: __import__("threading").Thread(target=int).start(),
).items()}}}}))
"""


def fence(**changes: Any) -> ParseLimits:
    return ParseLimits(**{"tesseract": None, **changes})


async def failure_of(path: Path, limits: ParseLimits | None = None, *, filename: str = "") -> ParseFailed:
    with pytest.raises(ParseFailed) as failed:
        await parse_file(path, filename=filename or path.name, limits=limits or fence())
    return failed.value


@pytest.fixture
def enclosed(tmp_path: Path, unused_tcp_port: int) -> dict[str, Any]:
    readable, other = tmp_path / "readable.txt", tmp_path / "other.txt"
    readable.write_text("the document")
    other.write_text("the secret")
    script = _ENCLOSED.format(
        root=str(_ROOT), readable=str(readable), other=str(other), folder=str(tmp_path), port=unused_tcp_port
    )
    environment = {"PATH": os.environ["PATH"], "SECRET_KEY": "of the parent"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def unused_tcp_port() -> Any:
    """The port of a server that would accept."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_an_enclosed_process_reads_its_document(enclosed: dict[str, Any]) -> None:
    assert enclosed["readable"] == "'the document'"
    assert "audit" in enclosed["held"]


def test_an_enclosed_process_writes_nothing(enclosed: dict[str, Any], tmp_path: Path) -> None:
    assert enclosed["write"] in ("PermissionError", "OSError")
    assert not (tmp_path / "new").exists() or not (tmp_path / "new").read_text()


@pytest.mark.parametrize("what", ["tcp", "names", "process"])
def test_an_enclosed_process_has_no_network_and_no_other_process(enclosed: dict[str, Any], what: str) -> None:
    assert enclosed[what] in ("PermissionError", "BlockingIOError")


@_ON_LINUX
def test_an_enclosed_process_has_the_memory_it_is_given(enclosed: dict[str, Any]) -> None:
    assert enclosed["memory"] == "MemoryError"


@_ON_LINUX
@pytest.mark.parametrize("what", ["other_file", "environment_of_parent", "password_file"])
def test_an_enclosed_process_reads_nothing_else(enclosed: dict[str, Any], what: str) -> None:
    if "landlock" not in enclosed["held"]:
        pytest.skip("this kernel has no Landlock")
    assert enclosed[what] == "PermissionError"


@_ON_LINUX
@pytest.mark.parametrize("what", ["raw_socket", "fork", "kill_parent", "udp"])
def test_machine_code_in_an_enclosed_process_is_refused_too(enclosed: dict[str, Any], what: str) -> None:
    if "seccomp" not in enclosed["held"]:
        pytest.skip("there is no filter for this architecture")
    assert enclosed[what] in ("-1", "PermissionError")
    assert enclosed["system"] != "0"


def test_an_enclosed_process_may_have_threads(enclosed: dict[str, Any]) -> None:
    assert enclosed["thread"] == "None"


async def test_the_child_gets_no_environment_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "of the parent")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    path = tmp_path / "long.txt"
    path.write_text("word " * 2_000_000)
    parsing = asyncio.create_task(parse_file(path, filename="long.txt", limits=fence()))
    child = await one_child()
    environment = child.environ()
    assert "SECRET_KEY" not in environment
    assert not [name for name in environment if "KEY" in name or "URL" in name or "IBID" in name]
    await parsing
    assert [entry.name for entry in tmp_path.iterdir()] == ["long.txt"]


async def test_the_child_takes_the_processor_after_everybody_else(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("word " * 2_000_000)
    parsing = asyncio.create_task(parse_file(path, filename="long.txt", limits=fence()))
    child = await one_child()
    expected = min(19, psutil.Process().nice() + 10)
    async with asyncio.timeout(30):
        while child.nice() != expected:
            await asyncio.sleep(0.005)
    await parsing


async def one_child() -> psutil.Process:
    """The parsing child of this process, as soon as there is one."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process().children():
            try:
                if any(part.endswith("child.py") for part in child.cmdline()):
                    return child
            except psutil.Error:
                continue
        await asyncio.sleep(0.002)
    raise AssertionError("there was no child")


async def test_a_killed_child_costs_one_file_and_may_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("word " * 4_000_000)
    parsing = asyncio.create_task(failure_of(path))
    (await one_child()).kill()
    failure = await parsing
    assert failure.code is FailureCode.PARSER_CRASHED
    assert failure.retryable


async def test_a_child_goes_when_nobody_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("word " * 4_000_000)
    parsing = asyncio.create_task(parse_file(path, filename="long.txt", limits=fence()))
    child = await one_child()
    parsing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await parsing
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


async def test_a_stopped_child_is_killed_when_its_time_is_up(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("word " * 4_000_000)
    parsing = asyncio.create_task(failure_of(path, fence(seconds=2, seconds_per_megabyte=0)))
    child = await one_child()
    child.send_signal(signal.SIGSTOP)
    failure = await parsing
    assert failure.code is FailureCode.PARSER_TIMEOUT
    assert failure.retryable
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


async def test_a_file_that_needs_too_much_processor_time_is_not_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "pages.pdf"
    path.write_bytes(make_pdf([["many words on a line of a page " * 20] * 50] * 400))
    failure = await failure_of(path, fence(cpu_seconds=0.2, cpu_seconds_per_megabyte=0))
    assert failure.code is FailureCode.PARSER_TIMEOUT
    assert not failure.retryable


async def test_a_file_that_needs_too_much_memory_fails_by_that_name(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("wörd " * 10_000_000)
    failure = await failure_of(path, fence(memory_bytes=96 * MEBIBYTE))
    assert failure.code is FailureCode.MEMORY_LIMIT


async def test_an_answer_that_never_ends_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("word " * 1_000_000)
    assert (await failure_of(path, fence(output_bytes=1_000_000))).code is FailureCode.TOO_LARGE
    assert (await failure_of(path, fence(characters=1_000_000))).code is FailureCode.TOO_LARGE


async def test_a_pdf_with_too_many_pages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pages.pdf"
    path.write_bytes(make_pdf([["one"], ["two"], ["three"]]))
    assert (await failure_of(path, fence(pages=2))).code is FailureCode.TOO_LARGE


async def test_a_file_that_is_gone_may_be_tried_again(tmp_path: Path) -> None:
    failure = await failure_of(tmp_path / "nothing.txt")
    assert failure.code is FailureCode.FILE_MISSING
    assert failure.retryable


def test_the_side_of_the_server_loads_no_parser() -> None:
    """Nor does a parser load the server: a child that needs a second to start would make small files slow."""
    script = "import app.rag.parsing.fence, sys; print(*sys.modules)"
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    assert not loaded & {
        "pypdfium2",
        "pypdf",
        "lxml",
        "charset_normalizer",
        "llama_index",
        "sqlalchemy",
        "pydantic",
        "fastapi",
    }


@pytest.mark.parametrize("parser", ["plain", "html", "pdf", "ocr"])
def test_a_parser_loads_nothing_of_the_server(parser: str) -> None:
    script = f"import app.rag.parsing.running, app.rag.parsing.{parser}, sys; print(*sys.modules)"
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    assert not loaded & {"llama_index", "sqlalchemy", "pydantic", "fastapi", "numpy", "asyncio"}


async def test_progress_is_reported_while_pages_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pages.pdf"
    path.write_bytes(make_pdf([[f"page {number}"] for number in range(35)]))
    shares: list[float] = []
    document = await parse_file(path, filename="pages.pdf", limits=fence(), on_progress=shares.append)
    assert len(document.pages) == 35
    assert len(shares) >= 3
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1
    assert 0 < document.peak_memory_bytes < 200 * MEBIBYTE
