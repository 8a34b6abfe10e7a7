"""The statements of docs/scaling.md run against a database of the service; its settings, sizes and benchmarks exist."""

import re
from pathlib import Path

import asyncpg

from app.core.config import Settings
from app.db import upkeep
from app.db.repositories.vector_indexes import MOST_GRAPHS
from tests.fixtures.large import DIMENSION, MODEL, add_large_organization
from tests.fixtures.postgres import open_database

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


def statements() -> list[str]:
    blocks = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [
        each.strip() for block in blocks for each in re.split(r";\n|(?<=\\gexec)\n", block) if each.strip()
    ]


async def test_the_statements_do_what_the_page_says(database_url: str) -> None:
    owner = await asyncpg.connect(database_url)
    await add_large_organization(owner, "org_large", 200)
    database = open_database(database_url)
    await upkeep.ensure_vector_index(
        database, embedding_model=MODEL, dimension=DIMENSION, from_rows=100, memory_mb=64
    )
    await owner.execute("DELETE FROM chunks WHERE ordinal % 10 = 0")
    done = []
    for statement in statements():
        rows = await owner.fetch(statement.removesuffix("\\gexec"))
        done += [await owner.execute(row[0]) for row in rows if statement.endswith("\\gexec")]
        if statement.startswith("SELECT relname"):
            assert {"chunks", "documents", "pages"} <= {row["relname"] for row in rows}

    assert done == ["REINDEX"]
    await database.close()
    await owner.close()


def test_its_settings_and_numbers_are_those_of_the_service() -> None:
    settings = Settings.model_fields
    for name in set(re.findall(r"`([A-Z]{2,}_[A-Z_]+)`", PAGE)):
        assert name.lower() in settings, name
    rows = settings["exact_search_max_values"].default // 384
    assert f"({rows:,} chunks of 384 numbers)" in PAGE
    assert f"At most {MOST_GRAPHS} organizations" in PAGE


def test_its_benchmarks_can_be_made() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make\s+([a-z-]+)`", PAGE):
        assert f"\n{target}:" in makefile
