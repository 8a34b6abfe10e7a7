"""Databases of 100,000 chunks in two layouts: all of them in one organization, and spread over fifty."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import corpus, seeding
from benchmarks.processes import Postgres, Server, postgres, service

DIMS: Final = 384

_EMPTY: Final = "empty"
_ASKED: Final = "Organization 0"
_SMALL: Final = 2_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much is stored; scopes of at most `exact_up_to` chunks are searched exactly."""

    rows: int
    organizations: int
    exact_up_to: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of the organizations, the one that is asked first."""

    name: str
    title: str
    sizes: tuple[int, ...]
    by_index: bool


def layouts_of(size: Size) -> tuple[Layout, Layout]:
    sizes = spread(size)
    return (
        Layout(
            "one", f"one organization of {size.rows:,} chunks (HNSW)", (size.rows, 300, 120), by_index=True
        ),
        Layout(
            "many",
            f"{_SMALL:,} of {sum(sizes):,} chunks in {len(sizes)} organizations (exact)",
            sizes,
            by_index=False,
        ),
    )


def small_layout() -> Layout:
    return Layout("small", f"{_SMALL:,} chunks", (_SMALL,), by_index=False)


def settings_for(provider: Server, exact_up_to: int = 20_000) -> dict[str, str]:
    """A custom embedding model, whose dimension the service has to find out."""
    return {
        "OPENAI_API_KEY": "sk-benchmark",
        "OPENAI_BASE_URL": f"{provider.url}/v1",
        "EMBEDDING_MODEL": f"hashing-{DIMS}",
        "EXACT_SEARCH_MAX_VALUES": str(exact_up_to * DIMS),
    }


@contextmanager
def filled(layouts: Sequence[Layout], settings: dict[str, str], folder: Path) -> Iterator[Postgres]:
    """A PostgreSQL with a database of each layout's name; filled once and kept for later runs."""
    key = corpus.fingerprint(
        *seeding.schema_files(),
        Path(seeding.__file__),
        Path(__file__),
        also=repr((layouts, settings["EXACT_SEARCH_MAX_VALUES"])),
    )
    cache = seeding.cache(f"chunks-{max(sum(layout.sizes) for layout in layouts)}", key)
    with postgres(cache.folder) as server:
        if not cache.is_filled:
            model = seeding.migrated_database(server, _EMPTY, settings, folder)
            for layout in layouts:
                _fill(server, layout, model, settings, folder)
            cache.mark_filled()
        yield server


def asked_tenant(url: str) -> seeding.Tenant:
    """The organization that the questions go to, with a new key."""
    return asyncio.run(seeding.tenant_of(url, _ASKED))


def _fill(server: Postgres, layout: Layout, model: str, settings: dict[str, str], folder: Path) -> None:
    url = seeding.make_database(server, layout.name, template=_EMPTY)
    texts = iter(corpus.many_passages(sum(layout.sizes)))
    asyncio.run(_fill_organizations(url, layout.sizes, texts, model))
    if max(layout.sizes) > int(settings["EXACT_SEARCH_MAX_VALUES"]) // DIMS:
        with service({**settings, "DB_URL": url}, folder, f"index-{layout.name}"):
            asyncio.run(seeding.vector_index(url, wait=True))


async def _fill_organizations(url: str, sizes: Sequence[int], texts: Iterator[str], model: str) -> None:
    connection = await seeding.connect(url)
    try:
        tenants = [
            await seeding.add_organization(connection, f"Organization {place}") for place in range(len(sizes))
        ]
    finally:
        await connection.close()
    shares = [
        (tenant, list(itertools.islice(texts, count))) for tenant, count in zip(tenants, sizes, strict=True)
    ]
    await seeding.add_chunks(url, shares, embed=corpus.hashing_embedder(DIMS), embedding_model=model)


def spread(size: Size) -> tuple[int, ...]:
    """From 120 to 28 % of all, few large and many small, and 2,000 in the one that is asked."""
    others, largest = size.organizations - 1, round(size.rows * 0.28)
    sizes: list[int] = []
    for tenths in range(10, 1_000):
        sizes = [
            120 + round((largest - 120) * (place / (others - 1)) ** (tenths / 10)) for place in range(others)
        ]
        if sum(sizes) <= size.rows - _SMALL:
            break
    return (_SMALL, *reversed(sizes))
