"""The web service: settings in, an application out. What is open while it serves is opened and closed here."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI

from app import __version__, worker
from app.api.documentation import add_documentation
from app.api.draining import Draining
from app.api.errors import add_error_handlers
from app.api.middleware import add_middleware
from app.api.one_time_pages import add_one_time_pages
from app.api.routes import ROUTERS
from app.api.schemas.base import ErrorResponse
from app.api.socket_admission import Places
from app.core import crypto, memory
from app.core.config import LOCAL_EMBEDDING_MODEL, OPENAI_EMBEDDING_MODEL, Settings
from app.core.errors import AppError, ServiceStopping, StartupError
from app.core.principal import SYSTEM
from app.db import embedded, migrations, queue, upkeep
from app.db.engine import Database, check_server, create_database
from app.db.notifications import Listener
from app.db.repositories.chunks import ScopeSizes
from app.db.repositories.index_state import IndexStateRepository
from app.rag import embedding, index, languages, llms
from app.rag.circuits import Circuits
from app.rag.errors import RagError
from app.rag.provider_http import HttpClient, ProviderClient
from app.services import bots, bursts, diagnostics, first_run, indexing, maintenance, relay
from app.services.runtime import Runtime
from app.services.web_pages import PageFetcher
from app.storage import originals
from app.storage.spool import Spool

log = structlog.get_logger(__name__)

_DESCRIPTION = "Answers from an organization's own documents and cites the exact place of every claim."


def create_app(settings: Settings) -> FastAPI:
    """The application. Once it runs, `state.credentials` are those that a first start made (else None)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await asyncio.to_thread(crypto.load, settings)  # before anything is made that is shown once
                database = await stack.enter_async_context(open_database(settings))
                credentials = await first_run.prepare(database, settings)
                runtime = await stack.enter_async_context(open_runtime(settings, database))
            except (StartupError, AppError) as error:
                app.state.startup_error = (
                    error  # for whoever runs the server: uvicorn says only that it failed
                )
                raise
            app.state.runtime, app.state.credentials = runtime, credentials
            stack.callback(app.state.draining.tell(partial(_end_turns, runtime)))
            await stack.enter_async_context(maintenance.running(runtime))
            if settings.worker_concurrency:
                await stack.enter_async_context(
                    worker.running(
                        runtime,
                        concurrency=settings.worker_concurrency,
                        drain_seconds=settings.shutdown_timeout_seconds,
                    )
                )
            memory.settle()
            yield

    app = FastAPI(
        title="Ibid",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # ours, below: FastAPI's loads its scripts from elsewhere
        redoc_url=None,
        responses={"4XX": {"model": ErrorResponse}, "5XX": {"model": ErrorResponse}},
    )
    app.state.draining = Draining()
    app.state.socket_places = Places()
    add_middleware(app, settings)
    add_error_handlers(app)
    add_documentation(app)
    add_one_time_pages(app)
    for router in ROUTERS:
        app.include_router(router)
        app.include_router(router, prefix="/v1", include_in_schema=False)
    if settings.admin_tables:
        from app.admin import site  # heavy, and off in most places

        site.mount(app)
    return app


def _end_turns(runtime: Runtime, is_time_over: bool) -> int:
    return runtime.turns.interrupt_all(ServiceStopping(retry_after_seconds=5)) if is_time_over else 0


@asynccontextmanager
async def open_database(settings: Settings, *, migrate: bool | None = None) -> AsyncIterator[Database]:
    """The configured database, or the embedded one; migrated unless the settings (or `migrate`) say no.

    Raises StartupError with what to do.
    """
    async with AsyncExitStack() as stack:
        if settings.db_url is None:
            _refuse_ephemeral_disk()
            server = await asyncio.to_thread(embedded.start, settings.data_dir)
            stack.callback(server.stop)
            url = server.url
        else:
            if problem := diagnostics.url_problem(settings):
                raise StartupError(" ".join(problem))
            url = settings.db_url.get_secret_value()
        database = create_database(
            url,
            pool_size=settings.db_pool_size,
            overflow=settings.db_pool_overflow,
            connect_timeout_seconds=settings.db_connect_timeout_seconds,
        )
        stack.push_async_callback(database.close)
        if settings.migrate_on_start if migrate is None else migrate:
            await migrations.upgrade(database)
            await database.close()  # connections of before the first migration do not know the vector types
        else:
            await check_server(database)
        yield database


def _refuse_ephemeral_disk() -> None:
    """On Railway a misspelt reference is an empty variable, and the next deploy would start from nothing."""
    if os.environ.get("RAILWAY_ENVIRONMENT") and not os.environ.get("RAILWAY_VOLUME_MOUNT_PATH"):
        raise StartupError(
            "DATABASE_URL is empty, and this container's disk is lost with the next deploy. Set DATABASE_URL to the"
            " project's PostgreSQL with pgvector, for example ${{pgvector.DATABASE_URL}}."
        )


@asynccontextmanager
async def open_runtime(settings: Settings, database: Database) -> AsyncIterator[Runtime]:
    """The models over one HTTP client, warmed up, and the claim on the index. Raises StartupError."""
    keyring = await asyncio.to_thread(crypto.load, settings)
    async with AsyncExitStack() as stack:
        counters = bursts.Counters(settings.redis_url.get_secret_value() if settings.redis_url else None)
        stack.push_async_callback(counters.aclose)
        client = await stack.enter_async_context(http_client(settings))
        embeddings = embedding_model(settings, client)
        stack.push_async_callback(embeddings.aclose)
        try:
            await embeddings.warm_up()
        except RagError as error:
            raise StartupError(f"The embedding model can't be used: {error}") from error
        if indexing.fixed_language(settings) is None:
            await asyncio.to_thread(languages.warm_up)
        async with database.unit_of_work(SYSTEM) as session:
            indexed_model, indexed_dimension = await IndexStateRepository(session).claim(
                embedding_model=embeddings.fingerprint, dimension=embeddings.dimension
            )
        await upkeep.ensure_exact_index(database, embedding_model=indexed_model, dimension=indexed_dimension)
        listener = Listener((queue.JOBS, queue.DOCUMENTS, relay.REQUESTS, relay.ANSWERS))
        await stack.enter_async_context(listener.running(database))
        if indexed_model != embeddings.fingerprint:
            log.error("embedding_model_mismatch", indexed=indexed_model, configured=embeddings.fingerprint)
        runtime = Runtime(
            settings=settings,
            database=database,
            embeddings=embeddings,
            index=index.build(embeddings.embedder),
            default_bot=bots.of_environment(settings),
            chat_model=None if settings.answers_extractively else chat_model(settings, client),
            indexed_model=indexed_model,
            indexed_dimension=indexed_dimension,
            scope_sizes=ScopeSizes(),
            keyring=keyring,
            counters=counters,
            originals=open_storage(settings),
            spool=Spool(settings.data_dir / "spool"),
            listener=listener,
            web=PageFetcher(),
            circuits=client.circuits,
        )
        stack.push_async_callback(runtime.background.aclose)
        await stack.enter_async_context(relay.running(runtime))
        yield runtime


def open_storage(settings: Settings) -> originals.Originals:
    """Where original files are kept. Raises StartupError."""
    try:
        return originals.open_originals(settings.storage_url, folder=settings.data_dir / "originals")
    except (originals.InvalidStorageUrl, OSError) as error:
        raise StartupError(f"STORAGE_URL can't be used: {error}") from error


def http_client(settings: Settings) -> HttpClient:
    return HttpClient(
        connect_timeout_seconds=settings.provider_connect_timeout_seconds,
        read_timeout_seconds=settings.provider_first_token_timeout_seconds,
        circuits=Circuits(
            failures=settings.provider_breaker_failures, pause_seconds=settings.provider_breaker_seconds
        ),
    )


def embedding_model(settings: Settings, client: ProviderClient) -> embedding.EmbeddingModel:
    if settings.uses_local_embeddings:
        if settings.embedding_model not in (None, "local", LOCAL_EMBEDDING_MODEL):
            log.warning("no_provider_key", wanted=settings.embedding_model, used=LOCAL_EMBEDDING_MODEL)
        return embedding.build(embedding.EmbeddingConfig(provider="local", model=LOCAL_EMBEDDING_MODEL), None)
    assert settings.openai_api_key is not None
    return embedding.build(
        embedding.EmbeddingConfig(
            provider="openai",
            model=settings.embedding_model or OPENAI_EMBEDDING_MODEL,
            api_key=settings.openai_api_key.get_secret_value(),
            base_url=settings.openai_base_url,
            timeout_seconds=settings.provider_first_token_timeout_seconds,
        ),
        client,
    )


def chat_model(settings: Settings, client: ProviderClient) -> llms.ChatModel:
    assert settings.openai_api_key is not None
    return llms.build(
        llms.ChatModelConfig(
            model=settings.chat_model,
            api_key=settings.openai_api_key.get_secret_value(),
            base_url=settings.openai_base_url,
            context_tokens=settings.chat_context_tokens,
            connect_timeout=settings.provider_connect_timeout_seconds,
            first_token_timeout=settings.provider_first_token_timeout_seconds,
            total_timeout=settings.provider_timeout_seconds,
            max_retries=settings.provider_max_retries,
            max_retry_wait=settings.provider_max_retry_wait_seconds,
        ),
        client,
    )
