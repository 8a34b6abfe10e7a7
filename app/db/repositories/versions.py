"""What becomes of a document's file: a new version arrives, is processed, and takes the place of the old one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, delete, func, or_, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from app.core.errors import SameTextElsewhere
from app.db import queue
from app.db.models import Chunk, Document, DocumentStatus, Page, Stage
from app.db.queue import Claim
from app.db.repositories.base import Repository

_INSERT_PAGES: Final = text("""
INSERT INTO pages (document_id, organization_id, number, text, label, headings, boxes)
SELECT :document_id, :organization_id, p.number, p.text, p.label, p.headings, p.boxes
  FROM unnest(CAST(:numbers AS int[]), CAST(:texts AS text[]), CAST(:labels AS text[]), CAST(:headings AS jsonb[]),
              CAST(:boxes AS jsonb[])) AS p (number, text, label, headings, boxes)
""")
_PAGES_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class NewPage:
    """A page to store; headings and boxes are JSON."""

    number: int
    text: str
    label: str | None = None
    headings: str | None = None
    boxes: str | None = None


class VersionRepository(Repository):
    async def add_uploaded(self, values: Mapping[str, Any]) -> Document | None:
        """A document of a file that is yet to be read; None when another one has this content or origin meanwhile."""
        document: Document | None = await self.session.scalar(
            postgresql.insert(Document)
            .values(
                organization_id=self.organization_id,
                status=DocumentStatus.UPLOADED,
                created_by=self.principal.id,
                **values,
            )
            .on_conflict_do_nothing()
            .returning(Document)
        )
        return document

    async def find_same(self, *, collection_id: str, sha256: str) -> Document | None:
        """The document of a collection that has this content."""
        document: Document | None = await self.session.scalar(
            select(Document).where(
                Document.organization_id == self.organization_id,
                Document.collection_id == collection_id,
                Document.sha256 == sha256,
            )
        )
        return document

    async def find_by_origin(self, *, collection_id: str, origin: str) -> Document | None:
        document: Document | None = await self.session.scalar(
            select(Document).where(
                Document.organization_id == self.organization_id,
                Document.collection_id == collection_id,
                or_(
                    Document.origin == origin,
                    and_(Document.other_origins.contains([origin]), Document.other_origins != []),
                ),
            )
        )
        return document

    async def adopt(self, document: Document, origin: str) -> Document:
        """Remember where a document comes from, also from there, unless another one of the collection does."""
        taken = await self.find_by_origin(collection_id=document.collection_id, origin=origin)
        if taken is not None:
            return document
        values: dict[str, Any] = {"origin": origin}
        if document.origin is not None:
            values = {"other_origins": [*document.other_origins, origin]}
        return await self._show(document.id, values) or document

    async def part(self, document: Document, origin: str) -> Document | None:
        """The document does not come from there any more, but from its other origins; None when it is gone."""
        others = [other for other in document.other_origins if other != origin]
        first = document.origin
        if first == origin:
            first, *others = others
        return await self._show(document.id, {"origin": first, "other_origins": others})

    async def start_again(self, document_id: str, values: Mapping[str, Any]) -> Document | None:
        """The document as a new generation that waits to be processed; what is served stays. None when it is gone."""
        return await self._show(
            document_id,
            {
                "status": DocumentStatus.UPLOADED,
                "generation": Document.generation + 1,
                "stage": None,
                "progress": 0.0,
                "attempts": 0,
                "error": None,
                **values,
            },
        )

    async def stop(self, document_id: str, values: Mapping[str, Any]) -> Document | None:
        """The document as a generation that nobody works on; None when it is gone."""
        return await self._show(
            document_id, {"generation": Document.generation + 1, "stage": None, "progress": 0.0, **values}
        )

    async def show_progress(self, claim: Claim, stage: Stage, progress: float) -> bool:
        """Tell how far the claim's work is, from 0 to 1; False when it is not this claim's any more.

        Nobody waits for a document that is held, which mostly is the transaction that completes it: a connection whose statement
        is given up in the middle would be closed.
        """
        if not await queue.holds(self.session, claim):
            return False
        of_claim = select(Document.id).where(
            Document.organization_id == self.organization_id,
            Document.id == claim.document_id,
            Document.generation == claim.generation,
            Document.status == DocumentStatus.PROCESSING,
        )
        shown = await self.session.scalar(
            update(Document)
            .where(
                Document.organization_id == self.organization_id,
                Document.id == of_claim.with_for_update(skip_locked=True).scalar_subquery(),
            )
            .values(stage=stage, progress=progress, revision=Document.revision + 1)
            .returning(Document.id)
        )
        if shown is None:
            return await self.session.scalar(of_claim) is not None
        await queue.announce(self.session, claim.document_id)
        return True

    async def lock(self, claim: Claim) -> Document | None:
        """The document, held until the transaction ends; None when it is gone or has a newer generation."""
        document: Document | None = await self.session.scalar(
            select(Document)
            .where(
                Document.organization_id == self.organization_id,
                Document.id == claim.document_id,
                Document.generation == claim.generation,
            )
            .with_for_update()
        )
        return document

    async def settle(self, document_id: str, values: Mapping[str, Any]) -> Document | None:
        """Write how the processing of this generation ended. Raises SameTextElsewhere."""
        return await self._show(document_id, {"stage": None, **values})

    async def clear(self, document_id: str, *, pages: bool) -> None:
        """Remove the chunks of the version before, and its pages."""
        for table in (Chunk, Page) if pages else (Chunk,):
            await self.session.execute(
                delete(table).where(
                    table.organization_id == self.organization_id, table.document_id == document_id
                )
            )

    async def add_pages(self, document_id: str, pages: Sequence[NewPage]) -> None:
        for start in range(0, len(pages), _PAGES_AT_ONCE):
            some = pages[start : start + _PAGES_AT_ONCE]
            await self.session.execute(
                _INSERT_PAGES,
                {
                    "document_id": document_id,
                    "organization_id": self.organization_id,
                    "numbers": [page.number for page in some],
                    "texts": [page.text for page in some],
                    "labels": [page.label for page in some],
                    "headings": [page.headings for page in some],
                    "boxes": [page.boxes for page in some],
                },
            )

    async def pages(self, document_id: str, *, limit: int, offset: int) -> Sequence[Page]:
        """Some of the document's pages, in their order."""
        return (
            await self.session.scalars(
                select(Page)
                .where(Page.organization_id == self.organization_id, Page.document_id == document_id)
                .order_by(Page.number)
                .limit(limit)
                .offset(offset)
            )
        ).all()

    async def _show(self, document_id: str, values: Mapping[str, Any]) -> Document | None:
        try:
            document: Document | None = await self.session.scalar(
                update(Document)
                .where(Document.organization_id == self.organization_id, Document.id == document_id)
                .values(updated_at=func.now(), revision=Document.revision + 1, **values)
                .returning(Document)
                .execution_options(populate_existing=True)
            )
        except IntegrityError as error:
            if "uq_documents" in str(error.orig):
                raise SameTextElsewhere from error
            raise
        if document is not None:
            await queue.announce(self.session, document_id)
        return document
