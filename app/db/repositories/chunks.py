"""The search of the chunks: dense and full text, fused in one statement."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from sqlalchemy import text

from app.core.retrieval import Condition, Hit, Operator, SearchFilter
from app.db.repositories.base import Repository


class ChunkRepository(Repository):
    def searching(
        self, *, where: SearchFilter, language: str, embedding_model: str, exact_up_to: int
    ) -> "Callable[..., Awaitable[list[Hit]]]":
        async def search(*, question: str, embedding: Sequence[float], limit: int) -> list[Hit]:
            conditions, parameters = _conditions(where)
            rows = await self.session.execute(
                text(_SEARCH.format(conditions=conditions)),
                {
                    "question": question,
                    "embedding": list(embedding),
                    "language": language,
                    "k": limit,
                    **parameters,
                },
            )
            return [Hit(*row) for row in rows]

        return search


_SEARCH: Final = """
WITH q AS (SELECT coalesce(string_agg(quote_literal(lexeme), ' | '), '')::tsquery AS any_term
             FROM unnest(to_tsvector(CAST(CAST(:language AS text) AS regconfig), :question))),
 dense AS (SELECT id, 1 - (embedding <=> CAST(:embedding AS halfvec)) AS s FROM searchable_chunks c WHERE true {conditions}
            ORDER BY (embedding <=> CAST(:embedding AS halfvec)) + 0 LIMIT 50),
 lexical AS (SELECT id, ts_rank(tsv, any_term, 1) AS s FROM searchable_chunks c, q WHERE tsv @@ any_term {conditions}
             ORDER BY 2 DESC LIMIT 50),
 fused AS (SELECT id, coalesce(d.s, 0)*0.5 + 0.5*coalesce(l.s / max(l.s) OVER (), 0) AS score, coalesce(d.s,0) AS sim,
            coalesce(l.s / max(l.s) OVER (), 0) AS cov FROM dense d FULL JOIN lexical l USING (id) ORDER BY 2 DESC LIMIT :k)
SELECT c.id, c.document_id, c.collection_id, d.title, d.source, c.page, c.char_start, c.char_end, c.text, f.score, f.sim, f.cov
  FROM fused f JOIN searchable_chunks c USING (id) JOIN documents d ON d.id = c.document_id ORDER BY f.score DESC
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
