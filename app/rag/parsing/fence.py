"""The server's side of parsing: a fresh child for each file, which can cost no more than that file.

The child has an empty environment, an empty working folder, a session of its own, and the limits of `ParseLimits`; what is left
of it is killed when it has answered, when its time is up, and when nobody waits for it any more. Only text in UTF-8, for which no
parser is needed, is read here.
"""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any, Final

from app.rag.parsing import plain
from app.rag.parsing.answer import Told, read_page
from app.rag.parsing.model import (
    MEBIBYTE,
    FailureCode,
    Kind,
    ParsedDocument,
    ParsedPage,
    ParseFailed,
    ParseLimits,
    ParseWarning,
)
from app.rag.parsing.sniffing import inspect_type

_CHILD: Final = Path(__file__).with_name("child.py")
_ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "OMP_THREAD_LIMIT": "1"}
_READ_BYTES: Final = 1 << 18
_PLAIN_BYTES: Final = 8 * MEBIBYTE

Progress = Callable[[float], None]


async def parse_file(
    path: Path,
    *,
    filename: str,
    content_type: str | None = None,
    limits: ParseLimits | None = None,
    on_progress: Progress | None = None,
) -> ParsedDocument:
    """The text of a file, whatever it is; `filename` and `content_type` are what its sender called it.

    `on_progress` hears shares from 0 to 1 where the format has pages. Raises ParseFailed, and nothing else for anything that a
    file can do.
    """
    limits = limits or ParseLimits()
    try:
        absolute, kind, size_bytes = await asyncio.to_thread(_inspect, path, filename, content_type)
    except FileNotFoundError:
        raise ParseFailed(FailureCode.FILE_MISSING, retryable=True) from None
    if kind is Kind.TEXT and size_bytes <= min(_PLAIN_BYTES, limits.output_bytes // 8):
        document = await asyncio.to_thread(_read_plain, path, limits)
        if document is not None:
            return document
    megabytes = size_bytes / MEBIBYTE
    cpu_seconds = ceil(limits.cpu_seconds + limits.cpu_seconds_per_megabyte * megabytes)
    request: dict[str, Any] = {
        "path": absolute,
        "filename": filename,
        "kind": kind,
        "content_type": content_type or "",
        "limits": asdict(limits),
        "cpu_seconds": cpu_seconds,
        "most_cpu_seconds": cpu_seconds + (ceil(limits.ocr_seconds) if limits.tesseract else 2),
        "engine": "",
    }
    deadline = asyncio.get_running_loop().time() + limits.seconds + limits.seconds_per_megabyte * megabytes
    try:
        return await _parse_in_child(request, kind, limits, deadline, on_progress)
    except ParseFailed as failure:
        if kind is not Kind.PDF or failure.code is not FailureCode.PARSER_CRASHED:
            raise
    # The fast reader of PDFs is a C++ library, and what kills it may be nothing to one in Python.
    return await _parse_in_child({**request, "engine": "pypdf"}, kind, limits, deadline, on_progress)


def _read_plain(path: Path, limits: ParseLimits) -> ParsedDocument | None:
    """A text in UTF-8, which takes no parser, so nothing that a file can do: a child takes longer to start than this takes.

    None where it is in another encoding, or none. Raises ParseFailed.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise ParseFailed(FailureCode.FILE_MISSING) from None
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    answer = Told(limits)
    plain.tell(text, answer)
    answer.done()
    return _understood(answer.lines, 0, Kind.TEXT)


async def draw_page(
    path: Path,
    *,
    number: int,
    width: int,
    boxes: Sequence[Sequence[float]] = (),
    limits: ParseLimits | None = None,
) -> bytes:
    """A page of a PDF (from 1), so many pixels wide, as WebP with boxes (points from the top left) marked.

    Raises ParseFailed, and nothing else for anything that a file can do.
    """
    limits = limits or ParseLimits(seconds=20, output_bytes=32 * MEBIBYTE)
    request: dict[str, Any] = {
        "path": str(await asyncio.to_thread(path.absolute)),
        "filename": "",
        "kind": Kind.PDF,
        "content_type": "",
        "limits": asdict(limits),
        "cpu_seconds": ceil(limits.cpu_seconds),
        "most_cpu_seconds": ceil(limits.cpu_seconds) + 2,
        "engine": "",
        "picture": {"number": number, "width": width, "boxes": [list(box) for box in boxes]},
    }
    deadline = asyncio.get_running_loop().time() + limits.seconds
    folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="ibid-draw-")
    try:
        lines, status = await _converse(request, limits, deadline, None, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
        return base64.b64decode(json.loads(lines[0])["picture"], validate=True)
    _read(lines, status, Kind.PDF)
    raise ParseFailed(FailureCode.PARSER_CRASHED)


def _inspect(path: Path, filename: str, content_type: str | None) -> tuple[str, Kind, int]:
    kind = inspect_type(path, filename=filename, declared=content_type)
    return str(path.absolute()), kind, path.stat().st_size


async def _parse_in_child(
    request: dict[str, Any], kind: Kind, limits: ParseLimits, deadline: float, on_progress: Progress | None
) -> ParsedDocument:
    folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="ibid-parse-")
    try:
        lines, status = await _converse(request, limits, deadline, on_progress, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return await asyncio.to_thread(_read, lines, status, kind)


async def _converse(
    request: dict[str, Any], limits: ParseLimits, deadline: float, on_progress: Progress | None, folder: str
) -> tuple[list[bytes], int]:
    """All lines that a child answered, and its exit status. Raises ParseFailed when it took too long or said too much."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-B", "-X", "utf8", str(_CHILD)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_ENVIRONMENT,
        cwd=folder,
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        async with asyncio.timeout_at(deadline) as timeout:
            with contextlib.suppress(ConnectionError):
                child.stdin.write(json.dumps(request | {"import_paths": _import_paths()}).encode() + b"\n")
                await child.stdin.drain()
                child.stdin.close()
            lines: list[bytes] = []
            async for line in _lines(child.stdout, most_bytes=limits.output_bytes):
                if line.startswith(b'{"longer"'):
                    timeout.reschedule(deadline + limits.ocr_seconds)
                elif not line.startswith(b'{"progress"'):
                    lines.append(line)
                elif on_progress is not None:
                    on_progress(_share(line))
            return lines, await child.wait()
    except TimeoutError:
        raise ParseFailed(FailureCode.PARSER_TIMEOUT, retryable=True) from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


async def _lines(stdout: asyncio.StreamReader, *, most_bytes: int) -> AsyncIterator[bytes]:
    """Whole lines, however long. Raises ParseFailed past `most_bytes`."""
    read_bytes = 0
    pending: list[bytes] = []
    while piece := await stdout.read(_READ_BYTES):
        read_bytes += len(piece)
        if read_bytes > most_bytes:
            raise ParseFailed(FailureCode.TOO_LARGE)
        first, *others = piece.split(b"\n")
        pending.append(first)
        for other in others:
            yield b"".join(pending)
            pending = [other]


def _share(line: bytes) -> float:
    try:
        return min(max(float(json.loads(line)["progress"]), 0.0), 1.0)
    except (KeyError, TypeError, ValueError):
        raise ParseFailed(FailureCode.PARSER_CRASHED) from None


def _import_paths() -> list[str]:
    """Where the child finds Ibid, the standard library and the packages: not what lies beside the code."""
    root = Path(__file__).parents[3]
    others = (Path(path) for path in sys.path if path)
    return [
        str(root),
        *(str(path) for path in others if path.is_absolute() and not root.is_relative_to(path)),
    ]


def _read(lines: list[bytes], status: int, kind: Kind) -> ParsedDocument:
    """The document of a child's answer. Raises ParseFailed when it has none."""
    return _understood(map(json.loads, lines), status, kind)


def _understood(lines: Iterable[Any], status: int, kind: Kind) -> ParsedDocument:
    end: dict[str, Any] = {}
    pages: list[ParsedPage] = []
    try:
        for said in lines:
            if "page" in said:
                pages.append(read_page(len(pages) + 1, said["page"]))
            else:
                end = said
        if "done" in end and status == 0:
            return _document(pages, end["done"], kind)
        if "failed" in end:
            failed = end["failed"]
            raise ParseFailed(
                FailureCode(failed["code"]), str(failed["message"]), retryable=failed["retryable"] is True
            )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ParseFailed(FailureCode.PARSER_CRASHED) from None
    if status == -signal.SIGXCPU:
        raise ParseFailed(FailureCode.PARSER_TIMEOUT)
    # SIGKILL comes from the system, when memory is short everywhere, and may not come again.
    raise ParseFailed(FailureCode.PARSER_CRASHED, retryable=status == -signal.SIGKILL)


def _document(pages: list[ParsedPage], end: dict[str, Any], kind: Kind) -> ParsedDocument:
    return ParsedDocument(
        pages=tuple(pages),
        title=end["title"],
        content_type=str(kind),
        language=end["language"],
        metadata=dict(end["metadata"]),
        warnings=tuple(
            ParseWarning(str(code), str(message), tuple(map(int, on)))
            for code, message, on in end["warnings"]
        ),
        page_kind=str(end["page_kind"]),
        peak_memory_bytes=int(end["peak_memory_bytes"]),
    )
