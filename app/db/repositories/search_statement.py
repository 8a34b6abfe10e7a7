r"""The text of the one retrieval statement: two legs, dense and lexical, scored together over one list of candidates.

The lexical leg is BM25 (k1 1.2, b 0.75, length in characters) without statistics that inserts would have to maintain:

- The shares in `lexeme_statistics` are estimates. They only choose the question's rarest lexemes, as many as keep the
  expected number of matching chunks within a window.
- In that window every document frequency is counted exactly; for the commoner lexemes the window's share, smoothed by
  the estimate, stands in.
  Twenty imagined chunks with every lexeme in one of them keep the weights sane in a scope of three documents, where a
  word that occurs nowhere would otherwise outweigh all that do.
- The frequency of a lexeme within a chunk comes out of `ts_rank` of that lexeme alone: with all weights 1 it is
  (1 + 1/4 + ... + 1/f²) / 1.645, which inverts.

Measured against a reference BM25 and plain rank fusion in docs/decisions/0004-retrieval-statement.md. Values are bound
parameters throughout; what is put into the text here are constants, two numbers and the name of the embedding model.
"""

from enum import StrEnum
from functools import lru_cache
from typing import Final

from sqlalchemy import TextClause, text

MAX_LEXEMES: Final = 64
MAX_WINDOW: Final = 2000


class Form(StrEnum):
    """How the candidates are found: by reading the whole scope, exactly with indexes, or by the HNSW graph."""

    SMALL = "small"
    EXACT = "exact"
    HNSW = "hnsw"


@lru_cache(maxsize=1000)
def retrieval(
    form: Form, *, embedding_model: str, dimension: int, nearest: int, conditions: str, by_collection: bool
) -> TextClause:
    """The statement of a form; `conditions` are further ones over `c`, each beginning with AND.

    It is planned once for all parameters, since that takes a third of the time of running it. So what a plan depends
    on stands in the text: the model, of which the vector indexes are partial, and how many of the nearest are wanted.
    """
    near = "c.embedding <=> CAST(:embedding AS halfvec)"
    order = f"({near}) + 0"  # the planner would take the HNSW graph for scopes that it serves worse than a plain scan
    if form is Form.HNSW:
        near = order = (
            f"CAST(c.embedding AS halfvec({dimension:d})) <=> CAST(:embedding AS halfvec({dimension:d}))"
        )
    if form is Form.SMALL:
        probe, hits = "CAST(string_agg(CAST(term AS text), ' | ') AS tsquery)", _HITS_BY_SCAN
    else:
        probe = _PROBE_WITH_COLLECTIONS if by_collection else _PROBE
        hits = _HITS_BY_INDEX
    # A colon would begin a parameter of SQLAlchemy's.
    model = "'" + embedding_model.replace("'", "''").replace(":", "\\:") + "'"
    # Without the concatenation the planner would combine the full text index with a B-tree that only repeats it.
    beside_index = conditions.replace("c.collection_id =", "c.collection_id || '' =").replace(
        "c.document_id =", "c.document_id || '' ="
    )
    return text(
        _RETRIEVAL.format(
            probe=probe,
            hits=hits.format(conditions=beside_index, model=model),
            conditions=conditions,
            near=near,
            order=order,
            model=model,
            nearest=f"{nearest:d}",
        )
    )


# Organization and collections are lexemes of the full text index too, so a common word of a large neighbour costs a
# small organization nothing. Where the scope is most of the table that lexeme would only be read in vain.
_IN_ORGANIZATION: Final = """\
CASE WHEN CAST(:visible AS float8) * 3 < (SELECT reltuples FROM pg_class WHERE oid = CAST('chunks' AS regclass))
     THEN '''' || current_setting('ibid.organization_id') || ''' & ' ELSE '' END"""
_PROBE: Final = (
    f"CAST(({_IN_ORGANIZATION} || '(' || string_agg(CAST(term AS text), ' | ') || ')') AS tsquery)"
)
_PROBE_WITH_COLLECTIONS: Final = (
    f"CAST(({_IN_ORGANIZATION}"
    " || (SELECT '(' || string_agg('''' || x || '''', ' | ') || ') & ' FROM unnest(CAST(:collection_ids AS text[])) x)"
    " || '(' || string_agg(CAST(term AS text), ' | ') || ')') AS tsquery)"
)

_HITS_BY_SCAN: Final = """\
  FROM searchable_chunks c
 WHERE (c.tsv @@ (SELECT query FROM probe)) IS TRUE AND c.embedding_model = {model} {conditions}"""
_HITS_BY_INDEX: Final = """\
  FROM matchable_chunks c
 WHERE c.scoped_tsv @@ (SELECT query FROM probe) AND c.embedding_model = {model} {conditions}"""

_RETRIEVAL: Final = rf"""
WITH lexemes AS MATERIALIZED (
  SELECT term, share, row_number() OVER rarest AS n, sum(share) OVER rarest * CAST(:visible AS float8) AS reach
    FROM (SELECT CAST('''' || replace(replace(t.lexeme, '\', '\\'), '''', '''''') || '''' AS tsquery) AS term, t.lexeme,
                 least(CAST(coalesce(s.share, (SELECT share FROM lexeme_statistics WHERE lexeme = ''), 0.0005) AS float8)
                       / coalesce((SELECT share FROM lexeme_statistics WHERE lexeme = ' ' || CAST(:language AS text)), 1),
                       0.99) AS share
            FROM unnest(to_tsvector(CAST(CAST(:language AS text) AS regconfig), CAST(:question AS text))) t
            LEFT JOIN lexeme_statistics s ON s.lexeme = t.lexeme) known
  WINDOW rarest AS (ORDER BY share, lexeme) ORDER BY share, lexeme LIMIT {MAX_LEXEMES}
), probe AS MATERIALIZED (
  SELECT count(*) AS terms, {{probe}} AS query FROM lexemes WHERE n = 1 OR reach <= CAST(:window AS float8)
), hits AS MATERIALIZED (
  SELECT c.id, c.tsv, c.char_end - c.char_start AS length, 1 - ({{near}}) AS similarity, true AS hit
{{hits}} LIMIT {MAX_WINDOW}
), nearest AS MATERIALIZED (
  SELECT c.id, 1 - ({{near}}) AS similarity
    FROM searchable_chunks c
   WHERE c.embedding_model = {{model}} {{conditions}}
   ORDER BY {{order}} LIMIT {{nearest}}
), candidates AS MATERIALIZED (
  SELECT * FROM hits
  UNION ALL
  SELECT n.id, c.tsv, c.char_end - c.char_start, n.similarity, false
    FROM nearest n JOIN searchable_chunks c ON c.id = n.id
   WHERE NOT EXISTS (SELECT FROM hits h WHERE h.id = n.id)
), matches AS MATERIALIZED (
  SELECT c.id, c.hit, c.length, l.n,
         1 / (1.64493406685 * (1 - CAST(ts_rank('{{{{1,1,1,1}}}}', c.tsv, l.term) AS float8))) - 0.5 AS frequency
    FROM candidates c JOIN lexemes l ON c.tsv @@ l.term
), found AS MATERIALIZED (
  SELECT count(*) AS hits, CAST(greatest(avg(length), 1) AS float8) AS length FROM hits
), weights AS MATERIALIZED (
  SELECT n, -ln(share) AS idf, sum(-ln(share)) OVER () AS mass
    FROM (SELECT l.n, CASE WHEN l.n <= p.terms AND f.hits < {MAX_WINDOW}
                           THEN (coalesce(m.hits, 0) + 1.5) / (greatest(CAST(:visible AS float8), f.hits) + 21)
                           WHEN l.n <= p.terms THEN l.share
                           ELSE (coalesce(m.hits, 0) + 20 * l.share) / (f.hits + 20) END AS share
            FROM lexemes l CROSS JOIN found f CROSS JOIN probe p
            LEFT JOIN (SELECT n, count(*) FILTER (WHERE hit) AS hits FROM matches GROUP BY n) m ON m.n = l.n) refined
), lexical AS (
  SELECT m.id, sum(w.idf * 2.2 * m.frequency / (m.frequency + 0.3 + 0.9 * m.length / f.length)) AS score,
         sum(w.idf) / min(w.mass) AS coverage
    FROM matches m JOIN weights w USING (n) CROSS JOIN found f GROUP BY m.id
), scored AS (
  SELECT c.id, c.similarity, coalesce(l.coverage, 0) AS coverage,
         CAST(:dense_weight AS float8) * (c.similarity - min(c.similarity) OVER everything)
           / greatest(max(c.similarity) OVER everything - min(c.similarity) OVER everything, 1e-9)
         + (1 - CAST(:dense_weight AS float8)) * coalesce(l.score, 0) / greatest(max(l.score) OVER everything, 1e-9) AS score
    FROM candidates c LEFT JOIN lexical l USING (id) WINDOW everything AS ()
), best AS MATERIALIZED (
  SELECT * FROM scored ORDER BY score DESC, id LIMIT :limit
)
SELECT c.id, c.document_id, c.collection_id, d.title, d.source, c.page, c.char_start, c.char_end, c.text, b.score,
       b.similarity, b.coverage
  FROM best b JOIN searchable_chunks c ON c.id = b.id JOIN documents d ON d.id = c.document_id
 ORDER BY b.score DESC, b.id
"""
