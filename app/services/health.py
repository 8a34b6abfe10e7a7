"""Readiness: which part of the service works."""

from dataclasses import dataclass

from app.core.errors import AppError, EmbeddingModelMismatch
from app.db import migrations
from app.services.runtime import Runtime


@dataclass(frozen=True, slots=True)
class PartHealth:
    name: str
    ok: bool
    message: str | None = None


async def check(runtime: Runtime) -> list[PartHealth]:
    """Ask the database and compare what the index was built with; never a provider."""
    parts = []
    try:
        revision = await migrations.current(runtime.database)
    except AppError as error:
        parts.append(PartHealth("database", ok=False, message=error.message))
    else:
        parts.append(PartHealth("database", ok=True))
        behind = migrations.is_behind(revision)
        message = f"The database is at revision {revision}; run `ibid migrate`." if behind else None
        parts.append(PartHealth("migrations", ok=not behind, message=message))
    try:
        runtime.require_matching_index()
    except EmbeddingModelMismatch as error:
        parts.append(PartHealth("index", ok=False, message=error.message))
    else:
        parts.append(PartHealth("index", ok=True))
    return parts
