"""The text of the one retrieval statement: two legs, dense and lexical, scored together over one list of candidates.

The lexical leg is BM25. What it knows of a chunk alone, the damped frequency of each term, was stored with the chunk as
a sparse vector (see `app.rag.terms`); what it knows of the organization, the share of chunks with a term, is in
`term_statistics`, or is counted in the statement itself where the scope is small. So a chunk's score is one inner
product. Of the question's terms the rarest find candidates, as many as keep the expected number within a window; all of
them score.

Candidates of one leg get the other leg's score too. Twenty imagined chunks with every term in one of them keep the
weights sane in a scope of three documents, where a word that occurs nowhere would otherwise outweigh all that do.

Measured in docs/decisions/0014-stored-terms.md. Values are bound parameters throughout; what is put into the text here
are constants, two numbers and the name of the embedding model.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from sqlalchemy import TextClause, text

from app.core.retrieval import TERM_DIMENSION
from app.db.repositories.vector_indexes import literal

MAX_WINDOW: Final = 2000


class Form(StrEnum):
    """How the candidates are found: by reading the whole scope, exactly with indexes, or by the organization's HNSW graph."""

    SMALL = "small"
    EXACT = "exact"
    HNSW = "hnsw"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the plan of a search depends on; `conditions` are on `c`, each beginning with AND.

    The organization is part of it only where it has a graph of its own.
    """

    form: Form
    embedding_model: str
    dimension: int
    nearest: int
    organization_id: str = ""
    conditions: str = ""
    probes_organization: bool = True
    probes_collections: bool = False
    explained: bool = False


@lru_cache(maxsize=1000)
def retrieval(shape: Shape) -> TextClause:
    """The statement of a shape.

    It is planned once for all parameters, since that takes a third of the time of running it. So what a plan depends
    on stands in the text: what the vector indexes are partial of, and how many of the nearest are wanted.
    """
    near = "c.embedding <=> CAST(:embedding AS halfvec)"
    order = f"({near}) + 0"  # the planner would take the HNSW graph for scopes that it serves worse than a plain scan
    by_graph = shape.form is Form.HNSW
    if by_graph:
        near = order = (
            f"CAST(c.embedding AS halfvec({shape.dimension:d})) <=> CAST(:embedding AS halfvec({shape.dimension:d}))"
        )
    whole = f"c.embedding_model = {literal(shape.embedding_model)}{shape.conditions}"
    # Without the concatenation the planner would combine the term index with a B-tree that only repeats it.
    beside_index = whole.replace("c.collection_id =", "c.collection_id || '' =").replace(
        "c.document_id =", "c.document_id || '' ="
    )
    if shape.probes_organization:
        beside_index += _IN_ORGANIZATION
    if shape.probes_collections:
        beside_index += _IN_COLLECTIONS
    candidates = _WHOLE_SCOPE if shape.form is Form.SMALL else _BY_INDEXES
    return text(
        candidates.format(
            whole=whole,
            of_graph=f" AND c.organization_id = {literal(shape.organization_id)}" if by_graph else "",
            beside_index=beside_index,
            near=near,
            order=order,
            nearest=f"{shape.nearest:d}",
            lexical_of_nearest=f", {_LEXICAL} AS lexical" if by_graph else "",
            scored_nearest=_SCORED_WHEN_FOUND if by_graph else _SCORED_AFTERWARDS,
        )
        + _RANKED.format(ranks=_RANKS if shape.explained else _NO_RANKS)
    )


# Organization and collections are terms of the index too, so a common word of a large neighbour costs a small
# organization nothing. Where the scope is most of the table that term would only be read in vain.
_IN_ORGANIZATION: Final = " AND c.scoped_terms @> ARRAY[hashtext(current_setting('ibid.organization_id'))]"
_IN_COLLECTIONS: Final = (
    " AND c.scoped_terms && ARRAY(SELECT hashtext(x) FROM unnest(CAST(:collection_ids AS text[])) x)"
)

_ASKED: Final = """\
unnest(CAST(:terms AS int[]), CAST(:words AS int[]), CAST(:shares AS float8[]), CAST(:populations AS float8[]))
         AS q (term, word, share, population)"""
_QUERY: Final = (
    "CAST('{{' || string_agg(term || '\\:' || weight, ',') || '}}/" + str(TERM_DIMENSION) + "' AS sparsevec)"
)

_BY_INDEXES: Final = f"""
WITH asked AS MATERIALIZED (
  SELECT term, word, share * -ln(least(frequency / population, 0.99)) AS weight,
         row_number() OVER rarest AS n, sum(frequency) OVER rarest * CAST(:visible AS float8) AS reach
    FROM (SELECT q.*, CAST(coalesce(s.share, 1.5 / greatest(CAST(:visible AS float8), 100)) AS float8) AS frequency
            FROM {_ASKED}
            LEFT JOIN term_statistics s
              ON s.organization_id = current_setting('ibid.organization_id') AND s.term = q.term) known
  WINDOW rarest AS (ORDER BY frequency, term)
), probe AS MATERIALIZED (
  SELECT array_agg(term) FILTER (WHERE n = 1 OR reach <= CAST(:window AS float8)) AS terms, {_QUERY} AS query FROM asked
), hits AS MATERIALIZED (
  SELECT c.id, 1 - ({{near}}) AS similarity, -(c.weights <#> (SELECT query FROM probe)) AS lexical
    FROM matchable_chunks c
   WHERE c.scoped_terms && (SELECT terms FROM probe) AND {{beside_index}} LIMIT {MAX_WINDOW}
), nearest AS MATERIALIZED (
  SELECT c.id, 1 - ({{near}}) AS similarity{{lexical_of_nearest}}
    FROM searchable_chunks c WHERE {{whole}}{{of_graph}} ORDER BY {{order}} LIMIT {{nearest}}
), candidates AS MATERIALIZED (
  SELECT * FROM hits
  UNION ALL
  {{scored_nearest}}
   WHERE NOT EXISTS (SELECT FROM hits h WHERE h.id = n.id)
)"""

_LEXICAL: Final = "-(c.weights <#> (SELECT query FROM probe))"
_SCORED_WHEN_FOUND: Final = "SELECT n.id, n.similarity, n.lexical FROM nearest n"
_SCORED_AFTERWARDS: Final = (
    f"SELECT n.id, n.similarity, {_LEXICAL} FROM nearest n JOIN searchable_chunks c ON c.id = n.id"
)
"""The graph hands out the nearest in their order; a sort would have to carry what is computed of every row."""

_WHOLE_SCOPE: Final = f"""
WITH scope AS MATERIALIZED (
  SELECT c.id, c.terms, c.weights, 1 - ({{near}}) AS similarity FROM searchable_chunks c WHERE {{whole}}
), asked AS MATERIALIZED (
  SELECT q.term, q.word,
         q.share * -ln((1.5 + count(s.id)) / ((SELECT count(*) FROM scope) * max(q.population) + 21)) AS weight
    FROM {_ASKED}
    LEFT JOIN scope s ON q.term = ANY(s.terms)
   GROUP BY q.term, q.word, q.share
), probe AS MATERIALIZED (
  SELECT {_QUERY} AS query FROM asked
), candidates AS MATERIALIZED (
  SELECT id, similarity, -(weights <#> (SELECT query FROM probe)) AS lexical FROM scope
)"""

_NO_RANKS: Final = "CAST(NULL AS bigint) AS dense_rank, CAST(NULL AS bigint) AS lexical_rank"
_RANKS: Final = """\
rank() OVER (ORDER BY similarity DESC) AS dense_rank,
         CASE WHEN lexical > 0 THEN rank() OVER (ORDER BY lexical DESC NULLS LAST) END AS lexical_rank"""

_RANKED: Final = """, extremes AS MATERIALIZED (
  SELECT min(similarity) AS least,
         greatest(max(similarity) - min(similarity), CAST(:dense_spread AS float8), 1e-9) AS spread,
         greatest(max(lexical), 1e-9) AS most
    FROM candidates
), scored AS (
  SELECT id, similarity, coalesce(lexical, 0) AS lexical, {ranks},
         CAST(:dense_weight AS float8) * (similarity - (SELECT least FROM extremes)) / (SELECT spread FROM extremes)
         + (1 - CAST(:dense_weight AS float8)) * coalesce(lexical, 0) / (SELECT most FROM extremes) AS score
    FROM candidates
), best AS MATERIALIZED (
  SELECT * FROM scored ORDER BY score DESC, id LIMIT :limit
)
SELECT c.id, c.document_id, c.collection_id, d.title, d.source, c.page, c.char_start, c.char_end, c.text, b.score,
       b.similarity,
       coalesce((SELECT sum(weight) FROM (SELECT max(weight) AS weight FROM asked WHERE term = ANY(c.terms)
                                           GROUP BY word) matched)
                / (SELECT greatest(sum(weight), 1e-9) FROM (SELECT max(weight) AS weight FROM asked GROUP BY word) all_words),
                0) AS coverage,
       b.lexical, b.dense_rank, b.lexical_rank, c.heading, d.page_count,
       d.content_type = 'application/pdf' AS has_layout
  FROM best b JOIN searchable_chunks c ON c.id = b.id JOIN documents d ON d.id = c.document_id
 ORDER BY b.score DESC, b.id
"""
