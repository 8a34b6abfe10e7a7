"""`ibid doctor` and `GET /admin/diagnostics`: is everything there that the service needs, and if not, what to do.

Changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

from app.core.config import Settings
from app.core.errors import AppError
from app.core.principal import SYSTEM, Principal
from app.core.usage import Purpose
from app.db import migrations
from app.db.engine import Database
from app.db.models import RebuildState
from app.db.repositories import diagnostics as questions
from app.db.repositories.index_state import IndexStateRepository
from app.db.repositories.rebuilds import RebuildRepository
from app.rag.embedding import EmbeddingModel, is_local
from app.rag.errors import RagError
from app.rag.llms import ChatModel, Turn
from app.services import auth, checks, embeddings, usage
from app.services.checks import Check, Status, fail, ok, warn
from app.services.runtime import Runtime

connection_problem = questions.connection_problem

_LONGEST_SECONDS: Final = 20.0
"""For the providers, where somebody waits for the answer of a request."""


async def of_service(runtime: Runtime, principal: Principal, *, ask_providers: bool) -> list[Check]:
    """The checks of a running service, as `ibid doctor` makes them. Raises SuperadminRequired.

    Providers are asked only where that is wanted: it takes their time and, a little, the organization's money.
    """
    auth.require_superadmin(principal)
    settings = runtime.settings
    found = [
        checks.python_version(),
        checks.secret_key(settings),
        checks.data_directory(settings),
        checks.storage(settings),
    ]
    if ask_providers:
        found += await _providers(runtime, principal)
    return found + [check async for check in database(runtime.database, settings, runtime.embeddings)]


async def _providers(runtime: Runtime, principal: Principal) -> list[Check]:
    """One text is embedded and one short answer given, at the same time."""
    async with usage.account(runtime, principal) as ledger:
        model = runtime.chat_model
        metered = None if model is None else ledger.metered(model, Purpose.PROBE)
        return list(
            await asyncio.gather(
                _in_time("embedding model", embedding(runtime.embeddings)),
                _in_time("chat model", chat(metered, runtime.settings)),
            )
        )


async def _in_time(name: str, check: Coroutine[Any, Any, Check]) -> Check:
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            return await check
    except TimeoutError:
        return fail(
            name,
            f"no answer within {_LONGEST_SECONDS:.0f} seconds",
            "Look whether the provider is overloaded, and whether OPENAI_BASE_URL is right.",
        )


async def embedding(model: EmbeddingModel) -> Check:
    """One text is embedded: the local model loads, or the provider answers."""
    name = "embedding model"
    try:
        await embeddings.query(model, "Ibid")
    except RagError as error:
        return fail(name, str(error), "Install Ibid anew with all that it depends on.")
    except AppError as error:
        return fail(name, error.message, "Check OPENAI_API_KEY, OPENAI_BASE_URL and EMBEDDING_MODEL.")
    where = "local" if model.provider == "local" else "the provider answers"
    return ok(name, f"{model.embedder.model_name}, {model.dimension} dimensions, {where}")


async def chat(model: ChatModel | None, settings: Settings) -> Check:
    """One short answer of the chat model, if there is one."""
    name = "chat model"
    if model is None:
        if settings.has_provider:
            return ok(name, "extractive, as CHAT_MODEL says: answers are quotes")
        return ok(name, "extractive: answers are quotes, since there is no OPENAI_API_KEY")
    try:
        await model.complete([Turn("user", "Say: ok")], temperature=settings.chat_temperature, max_tokens=16)
    except AppError as error:
        return fail(name, error.message, "Check OPENAI_API_KEY, OPENAI_BASE_URL and CHAT_MODEL.")
    return ok(name, f"{model.config.model}, the provider answers")


async def database(db: Database, settings: Settings, model: EmbeddingModel | None) -> AsyncIterator[Check]:
    """Server, schema, roles, index and contents; what needs the schema is left out while there is none."""
    server = await questions.server(db)
    yield ok("database", f"PostgreSQL {server.version}" + ("" if settings.db_url else ", embedded"))
    if server.vector:
        yield ok("pgvector", server.vector)
    schema = await _schema(db, settings)
    yield schema
    if schema.status is not Status.OK:
        return
    for role in questions.ROLES:
        if not await questions.usable_role(db, role):
            yield fail(
                f"role {role}",
                "the login role may not use it",
                f"Let the database's administrator run: GRANT {role} TO the user in DB_URL;",
            )
            return
    if await questions.is_walled(db):
        yield ok("roles", " and ".join(questions.ROLES) + " are usable, organizations are kept apart")
    else:
        yield fail("roles", "row-level security does not keep organizations apart", "Run: ibid migrate")
    async for check in _index(db, settings, model):
        yield check


async def _schema(db: Database, settings: Settings) -> Check:
    name = "migrations"
    revision, head = await migrations.current(db), migrations.head()
    if revision == head:
        return ok(name, f"at {head}, the newest")
    if revision is None and settings.migrate_on_start:
        return warn(
            name, "the database is empty", "Start with `ibid serve` or `ibid ingest FOLDER`: both set it up."
        )
    if revision is not None and revision > head:
        return fail(
            name, f"at {revision}, which this version does not know", "Update Ibid: the database is newer."
        )
    return fail(name, f"at {revision or 'none'}, this version needs {head}", "Run: ibid migrate")


async def _index(db: Database, settings: Settings, model: EmbeddingModel | None) -> AsyncIterator[Check]:
    async with db.unit_of_work(SYSTEM) as session:
        build = await IndexStateRepository(session).served()
        rebuild = await RebuildRepository(session).under_way()
    counts = await questions.counts(db)
    if build is None or not counts.chunks:
        yield ok("index", "empty")
    elif model is None:
        yield warn("index", f"of {build.fingerprint}; not compared, since the configured model does not work")
    elif build.fingerprint == model.fingerprint:
        yield ok("index", f"of the configured embedding model ({build.fingerprint})")
    elif is_local(build.model) or settings.has_provider:
        yield warn(
            "index",
            f"of {build.fingerprint}, and searched with that; {model.fingerprint} is configured",
            f"Change the index (POST /admin/index/rebuild), or set EMBEDDING_MODEL to {build.model}.",
        )
    else:
        yield fail(
            "index",
            f"built with {build.fingerprint}, but {model.fingerprint} is configured",
            "Set EMBEDDING_MODEL and the provider's key back, or rebuild the index (POST /admin/index/rebuild).",
        )
    if rebuild is not None:
        told = f"to {rebuild.embedding_model}, {rebuild.state}"
        reason = "" if rebuild.error is None else f": {rebuild.error['message']}"
        stopped = rebuild.state == RebuildState.FAILED
        yield warn(
            "rebuild",
            told + reason,
            "Send POST /admin/index/rebuild again, or DELETE it."
            if stopped
            else "Nothing: wait for its end.",
        )
    if build is not None:
        yield await _vector_index(db, settings, build.name, build.dimension)
    yield ok(
        "contents",
        f"organizations: {counts.organizations:,}, documents: {counts.documents:,}, chunks: {counts.chunks:,}",
    )


async def _vector_index(db: Database, settings: Settings, indexed: str, dimension: int) -> Check:
    name = "vector index"
    from_rows = settings.exact_search_max_values // dimension
    needed, there = await questions.graphs(db, indexed, from_rows=from_rows)
    if not needed:
        return ok(
            name, f"not needed up to {from_rows:,} chunks in an organization: they are searched exactly"
        )
    if there == needed:
        return ok(name, f"present (HNSW) for each organization of more than {from_rows:,} chunks: {there:,}")
    return warn(
        name,
        f"not there for {needed - there:,} of {needed:,} organizations of more than {from_rows:,} chunks",
        "Run `ibid serve`: it builds the index. Until then they are searched exactly.",
    )
