"""Retrieval alone: ranked chunks, no model call."""

from fastapi import APIRouter

from app.api import quotas
from app.api.deps import RuntimeDep, SearchingPrincipal
from app.api.schemas.filters import search_filter
from app.api.schemas.search import SearchRequest, SearchResponse, StepState, search_hit
from app.services import passages, retrieval

router = APIRouter(tags=["search"])


@router.post("/search", responses=quotas.RESPONSES)
async def search(body: SearchRequest, runtime: RuntimeDep, principal: SearchingPrincipal) -> SearchResponse:
    """The passages nearest to a question, best first."""
    where = search_filter(body.filters, body.collection_ids)
    if body.bot_id is None and not body.passages:
        failures: list[str] = []
        hits = await retrieval.search(
            runtime,
            principal,
            body.query,
            limit=body.top_k or runtime.settings.top_k_default,
            where=where,
            explained=body.explain,
            degraded=failures.append,
        )
        return SearchResponse(
            results=[search_hit(hit, explained=body.explain) for hit in hits],
            degraded=next(iter(failures), None),
        )
    found = await passages.search(
        runtime,
        principal,
        body.query,
        bot_id=body.bot_id,
        limit=body.top_k,
        where=where,
        merged=body.passages,
        explained=body.explain,
    )
    return SearchResponse(
        results=[search_hit(hit, explained=body.explain) for hit in found.hits],
        degraded=found.degraded,
        reranking=StepState.model_validate(found.reranking) if found.reranking else None,
        expansion=StepState.model_validate(found.expansion) if found.expansion else None,
    )
