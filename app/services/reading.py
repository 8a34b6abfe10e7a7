"""The text of a document: from its file, from its address, or from what was read before."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from app.core import ids
from app.core.config import Settings
from app.core.errors import NothingToReprocess, OriginalMissing
from app.core.principal import Principal
from app.core.text import file_name
from app.db.models import Document
from app.db.repositories.outbox import OutboxRepository
from app.db.repositories.versions import NewPage, VersionRepository
from app.rag.headings import Span
from app.rag.parsing import fence
from app.rag.parsing.model import FailureCode, ParsedDocument, ParsedPage, ParseFailed, ParseLimits
from app.services.runtime import Runtime

_OUTPUT_BYTES_A_CHARACTER: Final = 5
_TITLE_CHARACTERS: Final = 500
_PAGES_AT_ONCE: Final = 500
_STORING_GRACE: Final = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was behind an address, stored; to be kept by the transaction that completes the document."""

    storage_key: str
    sha256: str
    size_bytes: int
    filename: str | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A document's text. `kept` when it is that of the pages that are stored already."""

    pages: Sequence[NewPage]
    headings: Mapping[int, Sequence[Span]]
    content_type: str
    title: str | None = None
    extraction: dict[str, Any] = field(default_factory=dict)
    kept: bool = False
    fetched: Fetched | None = None


def limits_of(settings: Settings) -> ParseLimits:
    """What reading one file may take."""
    limits = ParseLimits(
        memory_bytes=settings.parse_memory_bytes,
        cpu_seconds=settings.parse_cpu_seconds,
        seconds=settings.parse_seconds,
        pages=settings.parse_max_pages,
        characters=settings.parse_max_characters,
        ocr_seconds=settings.ocr_seconds,
        ocr_languages=settings.ocr_languages,
    )
    least_output = _OUTPUT_BYTES_A_CHARACTER * settings.parse_max_characters
    limits = replace(limits, output_bytes=max(limits.output_bytes, least_output))
    return limits if settings.ocr_seconds else replace(limits, tesseract=None)


def nothing_to_read() -> ParseFailed:
    return ParseFailed(FailureCode.EMPTY_DOCUMENT)


@asynccontextmanager
async def read(
    runtime: Runtime,
    principal: Principal,
    document: Document,
    *,
    from_pages: bool = False,
    done: Callable[[float], None],
) -> AsyncIterator[Reading]:
    """The text of the newest version, for as long as the block lasts; `done` is told the share that is read.

    With `from_pages` the text that was read before will do.

    Raises ParseFailed, FetchFailed, OriginalMissing, OriginalsUnavailable and NothingToReprocess.
    """
    file = document.pending or {
        "storage_key": document.storage_key,
        "filename": document.filename,
        "content_type": document.content_type,
    }
    if from_pages and document.pending is None and document.page_count:
        yield await stored(runtime, principal, document)
    elif document.pending is None and document.url is not None:
        yield await _fetched(runtime, principal, document.url, done)
    elif file["storage_key"] is not None:
        try:
            async with runtime.originals.local_copy(file["storage_key"]) as path:
                parsed = await fence.parse_file(
                    path,
                    filename=file["filename"] or "",
                    content_type=file["content_type"],
                    limits=limits_of(runtime.settings),
                    on_progress=done,
                )
        except OriginalMissing as error:
            raise ParseFailed(FailureCode.FILE_MISSING) from error
        yield _reading(parsed)
    else:
        yield await stored(runtime, principal, document)


def _reading(parsed: ParsedDocument, fetched: Fetched | None = None) -> Reading:
    extraction: dict[str, Any] = {
        "page_kind": parsed.page_kind,
        "language": parsed.language,
        "metadata": parsed.metadata,
        "warnings": [
            {"code": warning.code, "message": warning.message, "pages": list(warning.pages)}
            for warning in parsed.warnings
        ],
    }
    return Reading(
        pages=[_page(page) for page in parsed.pages],
        headings={
            page.number: [(heading.start, heading.end, heading.level) for heading in page.headings]
            for page in parsed.pages
            if page.headings
        },
        content_type=parsed.content_type,
        title=(parsed.title or "").strip()[:_TITLE_CHARACTERS] or None,
        extraction=extraction,
        fetched=fetched,
    )


def _page(page: ParsedPage) -> NewPage:
    headings = [[heading.start, heading.end, heading.level] for heading in page.headings]
    return NewPage(
        number=page.number,
        text=page.text,
        label=page.label,
        headings=json.dumps(headings) if headings else None,
        boxes=json.dumps(page.boxes.as_json()) if page.boxes else None,
    )


async def stored(runtime: Runtime, principal: Principal, document: Document) -> Reading:
    """The pages as they were read before. Raises NothingToReprocess."""
    pages: list[NewPage] = []
    headings: dict[int, list[Span]] = {}
    while True:
        async with runtime.database.unit_of_work(principal) as session:
            found = await VersionRepository(session, principal).pages(
                document.id, limit=_PAGES_AT_ONCE, offset=len(pages)
            )
        pages += [NewPage(page.number, page.text) for page in found]
        headings |= {
            page.number: [(start, end, level) for start, end, level in page.headings]
            for page in found
            if page.headings
        }
        if len(found) < _PAGES_AT_ONCE:
            break
    if not pages:
        raise NothingToReprocess
    return Reading(pages, headings, document.content_type, kept=True)


async def _fetched(
    runtime: Runtime, principal: Principal, url: str, done: Callable[[float], None]
) -> Reading:
    """What is behind an address now; its file is stored, as one to remove unless the document is completed with it."""
    storage_key = ids.new_storage_key()
    file = await asyncio.to_thread(runtime.spool.create)
    try:
        page = await runtime.web.fetch(url, into=file.path)
        done(0.5)
        parsed = await fence.parse_file(
            file.path,
            filename=page.filename,
            content_type=page.content_type,
            limits=limits_of(runtime.settings),
        )
        sha256 = await asyncio.to_thread(_sha256_of, file.path)
        async with runtime.database.unit_of_work(principal) as session:
            await OutboxRepository(session, principal).add(storage_key, grace=_STORING_GRACE)
        await asyncio.to_thread(file.sync)
        await runtime.originals.put(file.path, storage_key)
    finally:
        await asyncio.to_thread(file.discard)
    return _reading(parsed, Fetched(storage_key, sha256, page.size_bytes, file_name(page.filename)))


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
