"""The searches that are compared: the product's, the dense query alone, and plain fusion.

Plain fusion is what hybrid search on PostgreSQL mostly is: `ts_rank` over an OR query and the nearest vectors, fused by
their ranks (k = 60) in one statement; it gets a table with a stored tsvector.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from pgvector import HalfVector
from sqlalchemy import text

from app.core.config import Settings
from app.core.principal import Principal
from app.core.retrieval import EVERYTHING, Query, Trust
from app.db.engine import Database
from app.db.repositories.chunks import ChunkRepository, ScopeSizes
from app.rag import fusion
from app.services import indexing
from benchmarks import vectors
from benchmarks.population import DIMS, MODEL

TOP: Final = 10

_RRF: Final = 60
_LEG: Final = 50

_DENSE: Final = """
SELECT c.id, c.document_id, c.text, 1 - ({near}) AS similarity FROM searchable_chunks c
 WHERE c.embedding_model = '{model}' {of_graph} ORDER BY {order} LIMIT {top}
"""
_PLAIN: Final = """
WITH asked AS MATERIALIZED (
  SELECT CAST(string_agg(quote_literal(lexeme), ' | ') AS tsquery) AS query
    FROM unnest(to_tsvector('english', CAST(:question AS text)))
), lexical AS (
  SELECT id, row_number() OVER (ORDER BY score DESC, id) AS n
    FROM (SELECT p.id, ts_rank(p.tsv, asked.query, 1) AS score FROM plain_texts p, asked
           WHERE p.tsv @@ asked.query AND p.organization_id = current_setting('ibid.organization_id')
           ORDER BY score DESC LIMIT {leg}) best
), dense AS (
  SELECT id, row_number() OVER () AS n
    FROM (SELECT c.id FROM searchable_chunks c
           WHERE c.embedding_model = '{model}' {of_graph} ORDER BY {order} LIMIT {leg}) nearest
), fused AS (
  SELECT id, sum(1.0 / ({rrf} + n)) AS score
    FROM (SELECT * FROM lexical UNION ALL SELECT * FROM dense) legs GROUP BY id ORDER BY score DESC LIMIT {top}
)
SELECT c.id, c.document_id, c.text, fused.score FROM fused JOIN searchable_chunks c USING (id) ORDER BY fused.score DESC
"""


@dataclass(frozen=True, slots=True)
class Organization:
    """One that is asked."""

    principal: Principal
    chunks: int


@dataclass(frozen=True, slots=True)
class Asked:
    organization: Organization
    question: str
    vector: vectors.Vectors


@dataclass(slots=True)
class Asking:
    """The product's search as `app.services.retrieval` makes it, and the two that it is compared with."""

    database: Database
    exact_up_to: int
    settings: Settings = field(default_factory=lambda: Settings(_env_file=None))
    sizes: ScopeSizes = field(default_factory=ScopeSizes)
    statements: dict[tuple[str, str], Any] = field(default_factory=dict)

    def _statement(self, form: str, organization: Organization) -> Any:
        """With the graph of the organization where it has one, else exact."""
        place = organization.principal.organization if organization.chunks > self.exact_up_to else ""
        if (form, place) not in self.statements:
            near = exact = "c.embedding <=> CAST(:embedding AS halfvec)"
            order, of_graph = f"({exact}) + 0", ""
            if place:
                near = f"CAST(c.embedding AS halfvec({DIMS})) <=> CAST(:embedding AS halfvec({DIMS}))"
                order, of_graph = near, f"AND c.organization_id = '{place}'"
            model = MODEL.replace(":", "\\:")
            self.statements[form, place] = text(
                form.format(
                    near=near, order=order, of_graph=of_graph, model=model, top=TOP, leg=_LEG, rrf=_RRF
                )
            )
        return self.statements[form, place]

    async def fused(self, asked: Asked, trust: Trust | None = None) -> object:
        principal = asked.organization.principal
        async with self.database.single(principal) as session:
            chunks = ChunkRepository(session, principal)
            reached = await chunks.scope(EVERYTHING, self.sizes)
            found = indexing.analyse_question(self.settings, asked.question, reached)
            trusted = trust or fusion.trust(MODEL, asked.question, spoken=found.spoken, written=found.written)
            return await chunks.search(
                Query(asked.vector.tolist(), [] if trust else found.terms, trusted),
                limit=TOP,
                where=EVERYTHING,
                embedding_model=MODEL,
                exact_up_to=self.exact_up_to,
                sizes=self.sizes,
            )

    async def dense_alone(self, asked: Asked) -> object:
        return await self._rows(_DENSE, asked, {"embedding": HalfVector(asked.vector)})

    async def plain_fusion(self, asked: Asked) -> object:
        values = {"embedding": HalfVector(asked.vector), "question": asked.question}
        return await self._rows(_PLAIN, asked, values)

    async def _rows(self, form: str, asked: Asked, values: dict[str, Any]) -> object:
        statement = self._statement(form, asked.organization)
        async with self.database.single(asked.organization.principal) as session:
            return (await session.execute(statement, values)).all()
