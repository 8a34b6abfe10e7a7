"""Text in, searchable out; and pages of the web."""

import hashlib

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from app.api import quotas
from app.api.deps import IdempotencyKey, IngestingPrincipal, RuntimeDep
from app.api.schemas.documents import IngestRequest, IngestResponse
from app.core.principal import Principal
from app.db.models import Document
from app.db.repositories.texts import StoredText
from app.services import idempotency, ingestion, uploads
from app.services.runtime import Runtime
from app.services.uploads import Wish

router = APIRouter(tags=["documents"])

_LONGEST_SECONDS = 300.0


@router.post(
    "/ingest",
    response_model=IngestResponse,
    responses={
        **quotas.RESPONSES,
        202: {"model": IngestResponse, "description": "It is stored, and waits to be processed."},
    },
)
async def ingest(
    body: IngestRequest,
    response: Response,
    runtime: RuntimeDep,
    principal: IngestingPrincipal,
    idempotency_key: IdempotencyKey = None,
) -> IngestResponse | JSONResponse:
    """Store a text. When this answers, it is searchable; the same text again is the same document.

    A page of the web (`url`), and a text with `"wait": false`, are processed in the background: 202.
    """
    if idempotency_key is None:
        answer = await _ingest(body, runtime, principal)
        response.status_code = _status(answer)
        return answer
    fingerprint = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
    async with idempotency.once(
        runtime, principal, idempotency_key, route="POST /ingest", longest_seconds=_LONGEST_SECONDS
    ) as attempt:
        if earlier := attempt.earlier(fingerprint):
            return JSONResponse(earlier.body, earlier.status)
        answer = await _ingest(body, runtime, principal)
        attempt.answer = idempotency.Answer(_status(answer), answer.model_dump())
        return JSONResponse(attempt.answer.body, attempt.answer.status)


async def _ingest(body: IngestRequest, runtime: Runtime, principal: Principal) -> IngestResponse:
    if body.text is not None and body.wait:
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
        return _answer(ingested.document, duplicate=ingested.duplicate)
    wish = Wish(
        title=body.title,
        source=body.source,
        tags=body.all_tags,
        metadata=body.metadata,
        collection_id=body.collection_id,
        document_id=body.document_id,
    )
    if body.text is not None:
        accepted = await uploads.accept_text(runtime, principal, body.text, wish)
    else:
        assert body.url is not None
        accepted = await uploads.accept_url(runtime, principal, body.url, wish)
    return _answer(accepted.document, duplicate=accepted.duplicate)


def _answer(document: Document | StoredText, *, duplicate: bool) -> IngestResponse:
    return IngestResponse.model_validate(
        {
            "document_id": document.id,
            "status": "indexed" if document.status == "completed" else document.status,
            "duplicate": duplicate,
            "chunks": document.chunk_count,
        }
    )


def _status(answer: IngestResponse) -> int:
    return 200 if answer.status == "indexed" or answer.duplicate else 202
