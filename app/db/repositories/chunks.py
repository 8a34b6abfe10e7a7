"""The search of the chunks: which form of the retrieval statement, with which filters."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pgvector import HalfVector
from sqlalchemy import text

from app.core.ids import FIRST_OF_SESSIONS
from app.core.retrieval import Condition, Hit, Operator, Query, Scope, SearchFilter
from app.db.direct import DirectTransaction
from app.db.repositories.base import TextRepository
from app.db.repositories.search_statement import Form, Shape, retrieval
from app.db.repositories.vector_indexes import GRAPHS, HAS_GRAPH, index_name

_SMALL_SCOPE: Final = 500
_SMALL_SELECTION: Final = 2000
_PROBED_COLLECTIONS: Final = 10
_NEAREST: Final = 50
_WINDOW: Final = 300
_SCOPE_SECONDS: Final = 15.0
_MAX_SCOPES: Final = 10_000
_LARGE_PART: Final = 1 / 3
_CHUNKS_A_STEP: Final = 1_000
_LEAST_BEAM: Final = 100
_MOST_BEAM: Final = 1_000
_SMALLEST_POPULATION: Final = 0.01


class ScopeSizes:
    """What an organization's collections hold, remembered for some seconds: it chooses a plan and which languages to ask in."""

    def __init__(self) -> None:
        self._scopes: dict[tuple[str, ...], tuple[float, Scope]] = {}
        self._graphs: dict[str, tuple[float, bool]] = {}

    def get(self, key: tuple[str, ...]) -> Scope | None:
        expires, scope = self._scopes.get(key, (0.0, None))
        return scope if expires > time.monotonic() else None

    def put(self, key: tuple[str, ...], scope: Scope) -> None:
        if len(self._scopes) >= _MAX_SCOPES:
            self._scopes.clear()
        self._scopes[key] = (time.monotonic() + _SCOPE_SECONDS, scope)

    def has_graph(self, name: str) -> bool | None:
        """Whether there is this vector index; None where that has to be asked."""
        expires, there = self._graphs.get(name, (0.0, None))
        return there if expires > time.monotonic() else None

    def put_graph(self, name: str, there: bool) -> None:
        if len(self._graphs) >= _MAX_SCOPES:
            self._graphs.clear()
        self._graphs[name] = (time.monotonic() + _SCOPE_SECONDS, there)


class ChunkRepository(TextRepository):
    async def scope(self, where: SearchFilter, sizes: ScopeSizes) -> Scope:
        """What the collections of a filter hold."""
        key: tuple[str, ...] = (self.organization_id,)
        if where.collection_ids is not None:
            key += (str(hash(frozenset(where.collection_ids))),)  # the ids themselves could be megabytes
        elif where.session_collection_id is not None:
            key += (where.session_collection_id,)
        known = sizes.get(key)
        if known is None:
            parameters: dict[str, Any] = {}
            condition = _place_condition(where, "collection_id", parameters)
            row = (
                await self.session.execute(
                    text(_SCOPE.format(condition=f"AND {condition}")),
                    {"organization_id": self.organization_id, **parameters},
                )
            ).one()
            counted: Mapping[str, int] = json.loads(row.languages or "{}")
            known = Scope(
                chunks=row.chunks,
                languages={language: count / max(row.chunks, 1) for language, count in counted.items()},
                rows=row.all_rows,
            )
            sizes.put(key, known)
        return known

    async def search(
        self,
        query: Query,
        *,
        limit: int,
        where: SearchFilter,
        embedding_model: str,
        exact_up_to: int,
        sizes: ScopeSizes,
        explained: bool = False,
    ) -> list[Hit]:
        """The best chunks of one model's vectors within the filter, best first; exact up to that many in the scope."""
        conditions, parameters = _conditions(where)
        scope = await self.scope(where, sizes)
        form = Form.EXACT
        if scope.chunks <= _SMALL_SCOPE or await self._selects_few(where, conditions, parameters):
            form = Form.SMALL
        elif scope.chunks > exact_up_to and await self._has_graph(embedding_model, sizes):
            form = Form.HNSW
        shape = Shape(
            form,
            embedding_model=embedding_model,
            dimension=len(query.embedding),
            nearest=max(_NEAREST, limit),
            organization_id=self.organization_id if form is Form.HNSW else "",
            conditions=conditions,
            probes_organization=scope.chunks < _LARGE_PART * scope.rows,
            probes_collections=await self._probes_collections(where, scope, sizes),
            explained=explained,
        )
        if form is Form.HNSW:
            await self._widen_beam(
                scope if where.collection_ids is None else await self.scope(SearchFilter(), sizes)
            )
        if form is not Form.SMALL:
            parameters |= {"window": float(_WINDOW), "visible": float(scope.chunks)}
        rows = await self.session.execute(
            retrieval(shape),
            {
                "embedding": HalfVector(list(query.embedding)),
                "terms": [term.term for term in query.terms],
                "words": [term.word for term in query.terms],
                "shares": [term.share for term in query.terms],
                "populations": [_population(term.languages, scope) for term in query.terms],
                "limit": limit,
                "dense_weight": query.trust.weight,
                "dense_spread": query.trust.spread,
                **parameters,
            },
        )
        return [Hit(*row) for row in rows]

    async def texts_of_ranges(self, ranges: Sequence[tuple[str, int, int, int]]) -> list[str | None]:
        """The text of each range: document, page, start and end in code points; None where there is no such page."""
        rows = await self.session.execute(
            text(_RANGES),
            {
                "organization_id": self.organization_id,
                "document_ids": [document_id for document_id, _, _, _ in ranges],
                "pages": [page for _, page, _, _ in ranges],
                "starts": [start for _, _, start, _ in ranges],
                "ends": [end for _, _, _, end in ranges],
            },
        )
        return [row.text for row in rows]

    async def _widen_beam(self, organization: Scope) -> None:
        """In a graph of more than 100,000 chunks a search keeps more candidates, or it would miss more of the nearest."""
        beam = min(organization.chunks // _CHUNKS_A_STEP, _MOST_BEAM)
        if beam <= _LEAST_BEAM:
            return
        if isinstance(self.session, DirectTransaction):
            await self.session.tune(_BEAM, str(beam))
        else:
            await self.session.execute(text(_SET_BEAM), {"beam": str(beam)})

    async def _has_graph(self, embedding_model: str, sizes: ScopeSizes) -> bool:
        name = index_name(GRAPHS, embedding_model, self.organization_id)
        there = sizes.has_graph(name)
        if there is None:
            there = bool(await self.session.scalar(HAS_GRAPH, {"name": name}))
            sizes.put_graph(name, there)
        return there

    async def boxes_of_pages(self, pages: Sequence[tuple[str, int]]) -> list[Mapping[str, Any]]:
        """Where the lines of each page (document, number) stand; nothing for a page that does not say."""
        rows = await self.session.execute(
            text(_BOXES),
            {
                "organization_id": self.organization_id,
                "document_ids": [document_id for document_id, _ in pages],
                "pages": [page for _, page in pages],
            },
        )
        return [json.loads(row.boxes) if row.boxes else {} for row in rows]

    async def _probes_collections(self, where: SearchFilter, scope: Scope, sizes: ScopeSizes) -> bool:
        """Whether the collections are terms to look up, and not only conditions on what is found.

        Each costs about half a millisecond there; without them the index finds the whole organization's matches.
        """
        if where.collection_ids is None or len(where.collection_ids) <= _PROBED_COLLECTIONS:
            return where.collection_ids is not None
        whole = await self.scope(SearchFilter(), sizes)
        return len(where.collection_ids) * max(scope.chunks, 1) <= _PROBED_COLLECTIONS * whole.chunks

    async def _selects_few(self, where: SearchFilter, conditions: str, parameters: dict[str, Any]) -> bool:
        """Whether documents, tags or metadata narrow the scope so far that reading the rest beats any index."""
        if not where.selects:
            return False
        matching = await self.session.scalar(
            text(_MATCHING.format(conditions=conditions)), {"most": _SMALL_SELECTION + 1, **parameters}
        )
        return int(matching or 0) <= _SMALL_SELECTION


def _population(languages: Sequence[str], scope: Scope) -> float:
    """The part of the chunks in which a term of these languages could stand: all where that is not known."""
    part = sum(scope.languages.get(language, 0.0) for language in languages)
    return min(max(part, _SMALLEST_POPULATION), 1.0) if part else 1.0


_SCOPE: Final = """
SELECT coalesce(sum(chunk_count), 0) AS chunks,
       (SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = CAST('chunks' AS regclass)) AS all_rows,
       (SELECT CAST(json_object_agg(language, chunks) AS text)
          FROM (SELECT language, sum(chunk_count) AS chunks FROM documents, unnest(languages) AS language
                 WHERE organization_id = :organization_id {condition} GROUP BY language) counted) AS languages
  FROM documents WHERE organization_id = :organization_id {condition}
"""
_BEAM: Final = "hnsw.ef_search"
_SET_BEAM: Final = f"SELECT set_config('{_BEAM}', :beam, true)"
_RANGES: Final = """
SELECT substr(p.text, r.first + 1, r.past - r.first) AS text
  FROM unnest(CAST(:document_ids AS text[]), CAST(:pages AS int[]), CAST(:starts AS int[]), CAST(:ends AS int[]))
       WITH ORDINALITY AS r (document_id, page, first, past, place)
  LEFT JOIN pages p ON p.organization_id = :organization_id AND p.document_id = r.document_id AND p.number = r.page
 ORDER BY r.place
"""
_BOXES: Final = """
SELECT CAST(p.boxes AS text) AS boxes
  FROM unnest(CAST(:document_ids AS text[]), CAST(:pages AS int[])) WITH ORDINALITY AS r (document_id, page, place)
  LEFT JOIN pages p ON p.organization_id = :organization_id AND p.document_id = r.document_id AND p.number = r.page
 ORDER BY r.place
"""
_MATCHING: Final = """
SELECT count(*) FROM (SELECT FROM searchable_chunks c WHERE true {conditions} LIMIT :most) AS matching
"""

_COMPARISONS: Final = {Operator.GT: ">", Operator.GTE: ">=", Operator.LT: "<", Operator.LTE: "<="}


def _conditions(where: SearchFilter) -> tuple[str, dict[str, Any]]:
    """The filter as SQL over `c`, every value a bound parameter; the text is made of constants only."""
    parameters: dict[str, Any] = {}
    parts = [_place_condition(where, "c.collection_id", parameters)]
    if where.document_ids is not None:
        parts.append("c.document_id = ANY(CAST(:document_ids AS text[]))")
        parameters["document_ids"] = list(where.document_ids)
    if where.tags is not None:
        parts.append("c.tags && CAST(:tags AS text[])")
        parameters["tags"] = list(where.tags)
    for number, condition in enumerate(where.metadata):
        parts.append(_metadata_condition(f"m{number}", condition, parameters))
    if of_document := _document_conditions(where, parameters):
        # As a truth value it stays a lookup in a hashed list; as a join it could turn the plan around.
        parts.append(f"(c.document_id IN (SELECT d.id FROM documents d WHERE {of_document})) IS TRUE")
    return "".join(f" AND {part}" for part in parts), parameters


def _place_condition(where: SearchFilter, column: str, parameters: dict[str, Any]) -> str:
    """The collections: those that are named, or all that are nobody's session's but the one that is asked in."""
    if where.collection_ids is not None:
        parameters["collection_ids"] = list(where.collection_ids)
        return f"{column} = ANY(CAST(:collection_ids AS text[]))"
    shared = f"{column} COLLATE \"C\" < '{FIRST_OF_SESSIONS}'"
    if where.session_collection_id is None:
        return shared
    parameters["session_collection_id"] = where.session_collection_id
    return f"({shared} OR {column} = CAST(:session_collection_id AS text))"


def _document_conditions(where: SearchFilter, parameters: dict[str, Any]) -> str:
    parts: list[str] = []
    if where.title is not None:
        parts.append("strpos(lower(d.title), lower(CAST(:title AS text))) > 0")
        parameters["title"] = where.title
    for number, (operator, bound) in enumerate(where.created):
        parts.append(f"d.created_at {_COMPARISONS[operator]} CAST(:created{number} AS timestamptz)")
        parameters[f"created{number}"] = bound
    return " AND ".join(parts)


def _metadata_condition(name: str, condition: Condition, parameters: dict[str, Any]) -> str:
    key, value = f"{name}_key", f"{name}_value"
    parameters[key] = condition.key
    field = f"(c.metadata -> CAST(:{key} AS text))"
    if condition.operator is Operator.EXISTS:
        return f"{field} IS {'NOT ' if condition.values[0] else ''}NULL"
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
