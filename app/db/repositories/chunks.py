"""The search of the chunks: which form of the retrieval statement, with which filters."""

import json
import time
from collections.abc import Sequence
from typing import Any, Final

from pgvector import HalfVector
from sqlalchemy import text

from app.core.retrieval import Condition, Hit, Operator, SearchFilter
from app.db.repositories.base import TextRepository
from app.db.repositories.search_statement import Form, retrieval

_SMALL_SCOPE: Final = 500
_SMALL_SELECTION: Final = 2000
_PROBED_COLLECTIONS: Final = 10
_NEAREST: Final = 50
_WINDOW: Final = 300
_DENSE_WEIGHT: Final = 0.4
_SIZE_SECONDS: Final = 15.0
_MAX_SIZES: Final = 10_000


class ScopeSizes:
    """How many chunks an organization's collections hold, remembered for some seconds: it chooses a plan, no result."""

    def __init__(self) -> None:
        self._sizes: dict[tuple[str, ...], tuple[float, int]] = {}

    def get(self, scope: tuple[str, ...]) -> int | None:
        expires, size = self._sizes.get(scope, (0.0, 0))
        return size if expires > time.monotonic() else None

    def put(self, scope: tuple[str, ...], size: int) -> None:
        if len(self._sizes) >= _MAX_SIZES:
            self._sizes.clear()
        self._sizes[scope] = (time.monotonic() + _SIZE_SECONDS, size)


class ChunkRepository(TextRepository):
    async def search(
        self,
        *,
        question: str,
        embedding: Sequence[float],
        limit: int,
        where: SearchFilter,
        language: str,
        embedding_model: str,
        exact_up_to: int,
        sizes: ScopeSizes,
    ) -> list[Hit]:
        """The best chunks of one model's vectors within the filter, best first; exact up to that many in the scope."""
        conditions, parameters = _conditions(where)
        visible = await self._visible(where, sizes)
        form = Form.EXACT if visible <= exact_up_to else Form.HNSW
        if visible <= _SMALL_SCOPE or await self._selects_few(where, conditions, parameters):
            form = Form.SMALL
        statement = retrieval(
            form,
            embedding_model=embedding_model,
            dimension=len(embedding),
            nearest=max(_NEAREST, limit),
            conditions=conditions,
            by_collection=await self._probes_collections(where, visible, sizes),
        )
        rows = await self.session.execute(
            statement,
            {
                "question": question,
                "embedding": HalfVector(list(embedding)),
                "language": language,
                "limit": limit,
                "window": float(_WINDOW),
                "visible": float(visible),
                "dense_weight": _DENSE_WEIGHT,
                **parameters,
            },
        )
        return [Hit(*row) for row in rows]

    async def _visible(self, where: SearchFilter, sizes: ScopeSizes) -> int:
        scope: tuple[str, ...] = (self.organization_id,)
        if where.collection_ids is not None:
            scope += (str(hash(frozenset(where.collection_ids))),)  # the ids themselves could be megabytes
        known = sizes.get(scope)
        if known is None:
            condition = (
                "AND collection_id = ANY(CAST(:collection_ids AS text[]))" if where.collection_ids else ""
            )
            known = int(
                await self.session.scalar(
                    text(_VISIBLE + condition),
                    {"organization_id": self.organization_id}
                    | ({"collection_ids": list(where.collection_ids)} if where.collection_ids else {}),
                )
                or 0
            )
            sizes.put(scope, known)
        return known

    async def _probes_collections(self, where: SearchFilter, visible: int, sizes: ScopeSizes) -> bool:
        """Whether the collections are lexemes of the full text query, and not only conditions on what it finds.

        Each costs about half a millisecond there; without them the index finds the whole organization's matches.
        """
        if where.collection_ids is None or len(where.collection_ids) <= _PROBED_COLLECTIONS:
            return where.collection_ids is not None
        whole = await self._visible(SearchFilter(), sizes)
        return len(where.collection_ids) * max(visible, 1) <= _PROBED_COLLECTIONS * whole

    async def _selects_few(self, where: SearchFilter, conditions: str, parameters: dict[str, Any]) -> bool:
        """Whether documents, tags or metadata narrow the scope so far that reading the rest beats any index."""
        if where.document_ids is None and where.tags is None and not where.metadata:
            return False
        matching = await self.session.scalar(
            text(_MATCHING.format(conditions=conditions)), {"most": _SMALL_SELECTION + 1, **parameters}
        )
        return int(matching or 0) <= _SMALL_SELECTION


_VISIBLE: Final = "SELECT sum(chunk_count) FROM documents WHERE organization_id = :organization_id "
_MATCHING: Final = """
SELECT count(*) FROM (SELECT FROM searchable_chunks c WHERE true {conditions} LIMIT :most) AS matching
"""

_COMPARISONS: Final = {Operator.GT: ">", Operator.GTE: ">=", Operator.LT: "<", Operator.LTE: "<="}


def _conditions(where: SearchFilter) -> tuple[str, dict[str, Any]]:
    """The filter as SQL over `c`, every value a bound parameter; the text is made of constants only."""
    parts: list[str] = []
    parameters: dict[str, Any] = {}
    if where.collection_ids is not None:
        parts.append("c.collection_id = ANY(CAST(:collection_ids AS text[]))")
        parameters["collection_ids"] = list(where.collection_ids)
    if where.document_ids is not None:
        parts.append("c.document_id = ANY(CAST(:document_ids AS text[]))")
        parameters["document_ids"] = list(where.document_ids)
    if where.tags is not None:
        parts.append("c.tags && CAST(:tags AS text[])")
        parameters["tags"] = list(where.tags)
    for number, condition in enumerate(where.metadata):
        parts.append(_metadata_condition(f"m{number}", condition, parameters))
    return "".join(f" AND {part}" for part in parts), parameters


def _metadata_condition(name: str, condition: Condition, parameters: dict[str, Any]) -> str:
    key, value = f"{name}_key", f"{name}_value"
    parameters[key] = condition.key
    field = f"(c.metadata -> CAST(:{key} AS text))"
    if condition.operator in (Operator.EQ, Operator.IN):
        parameters[value] = json.dumps(list(condition.values))
        # An element of the list equals the stored value, or is one of its elements when that is a list itself.
        return (
            f"({field} IN (SELECT jsonb_array_elements(CAST(CAST(:{value} AS text) AS jsonb)))"
            f" OR jsonb_typeof({field}) = 'array' AND EXISTS (SELECT FROM"
            f" jsonb_array_elements(CAST(CAST(:{value} AS text) AS jsonb)) wanted WHERE {field} @> wanted))"
        )
    comparison = _COMPARISONS[condition.operator]
    bound = condition.values[0]
    parameters[value] = str(bound)
    stored = f"(c.metadata ->> CAST(:{key} AS text))"
    if isinstance(bound, str):
        return f"(jsonb_typeof({field}) = 'string' AND {stored} COLLATE \"C\" {comparison} CAST(:{value} AS text))"
    return (
        f"(CASE WHEN jsonb_typeof({field}) = 'number'"
        f" THEN CAST({stored} AS numeric) {comparison} CAST(CAST(:{value} AS text) AS numeric) END)"
    )
