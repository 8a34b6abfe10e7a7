"""Pages of PDF files as pictures, with a passage marked: drawn in a fenced child, never here."""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import structlog

from app.core import boxes
from app.core.boxes import Box
from app.core.errors import ChunkNotFound, NoPageImages, OriginalNotKept, PageNotDrawn, PageNotFound
from app.core.principal import Principal
from app.db.engine import Transaction
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.versions import VersionRepository
from app.rag.parsing import fence
from app.rag.parsing.model import Kind, ParseFailed
from app.services import access
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

_FORM: Final = "1"
"""Of the pictures; a new one where they are drawn otherwise."""
_DRAWN_AT_ONCE: Final = 2
_KEPT_BYTES: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class PageImage:
    """A picture to be drawn: of which stored file, which page, how wide, with which boxes marked."""

    storage_key: str
    number: int
    width: int
    boxes: tuple[Box, ...]
    etag: str


class _Drawn:
    """The pictures drawn last, as many as fit, and how many are being drawn."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size_bytes = 0
        self.turns = asyncio.Semaphore(_DRAWN_AT_ONCE)

    def get(self, etag: str) -> bytes | None:
        picture = self._kept.get(etag)
        if picture is not None:
            self._kept.move_to_end(etag)
        return picture

    def keep(self, etag: str, picture: bytes) -> None:
        if etag in self._kept or len(picture) > _KEPT_BYTES // 2:
            return
        self._kept[etag] = picture
        self._size_bytes += len(picture)
        while self._size_bytes > _KEPT_BYTES:
            self._size_bytes -= len(self._kept.popitem(last=False)[1])


_DRAWN: Final = _Drawn()


async def find(
    runtime: Runtime,
    principal: Principal,
    document_id: str,
    *,
    number: int,
    chunk_id: str | None,
    width: int,
) -> PageImage:
    """The picture of a page (from 1), with the part of a chunk that stands on it marked; nothing is drawn yet.

    Raises DocumentNotFound, NoPageImages, OriginalNotKept, PageNotFound and ChunkNotFound.
    """
    async with runtime.database.unit_of_work(principal) as session:
        document = await access.document(session, await access.reach_of(session, principal), document_id)
        if document.content_type != Kind.PDF:
            raise NoPageImages
        if document.storage_key is None or document.storage_sha256 is None:
            raise OriginalNotKept
        marked = await _marked(session, principal, document_id, number=number, chunk_id=chunk_id)
    seen = repr((_FORM, principal.organization, document.storage_sha256, number, width, marked))
    etag = f'"{hashlib.sha256(seen.encode()).hexdigest()[:32]}"'
    return PageImage(document.storage_key, number, width, marked, etag)


async def draw(runtime: Runtime, image: PageImage) -> bytes:
    """The picture as WebP. Raises OriginalMissing, OriginalsUnavailable and PageNotDrawn."""
    if picture := _DRAWN.get(image.etag):
        return picture
    async with _DRAWN.turns:
        if picture := _DRAWN.get(image.etag):  # somebody else wanted it too
            return picture
        async with runtime.originals.local_copy(image.storage_key) as path:
            try:
                picture = await fence.draw_page(
                    path, number=image.number, width=image.width, boxes=image.boxes
                )
            except ParseFailed as failure:
                log.warning("page_not_drawn", storage_key=image.storage_key, reason=failure.code)
                raise PageNotDrawn(details={"reason": str(failure.code)}) from failure
    _DRAWN.keep(image.etag, picture)
    return picture


async def _marked(
    session: Transaction, principal: Principal, document_id: str, *, number: int, chunk_id: str | None
) -> tuple[Box, ...]:
    pages = await VersionRepository(session, principal).pages(document_id, limit=1, offset=number - 1)
    if not pages:
        raise PageNotFound
    if chunk_id is None:
        return ()
    chunk = await DocumentRepository(session, principal).chunk(document_id, chunk_id)
    if chunk is None or chunk.page != number:
        raise ChunkNotFound
    return boxes.within(pages[0].boxes or {}, chunk.char_start, chunk.char_end)
