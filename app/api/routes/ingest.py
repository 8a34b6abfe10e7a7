"""Text in, searchable out."""

from fastapi import APIRouter

from app.api import quotas
from app.api.deps import IngestingPrincipal, RuntimeDep
from app.api.schemas.documents import IngestRequest, IngestResponse
from app.services import ingestion

router = APIRouter(tags=["documents"])


@router.post("/ingest", responses=quotas.RESPONSES)
async def ingest(body: IngestRequest, runtime: RuntimeDep, principal: IngestingPrincipal) -> IngestResponse:
    """Store a text. When this answers, it is searchable; the same text again is the same document."""
    ingested = await ingestion.ingest_text(
        runtime,
        principal,
        ingestion.TextSource(
            text=body.text,
            title=body.title,
            source=body.source,
            tags=body.all_tags,
            metadata=body.metadata,
            collection_id=body.collection_id,
            document_id=body.document_id,
        ),
    )
    return IngestResponse(
        document_id=ingested.document.id,
        status="indexed",
        duplicate=ingested.duplicate,
        chunks=ingested.document.chunk_count,
    )
