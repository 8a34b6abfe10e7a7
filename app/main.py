"""The web service: settings in, an application out. What is open while it serves is opened and closed here."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI

from app import __version__, worker
from app.api.credentials import describe_credentials
from app.api.documentation import add_documentation
from app.api.draining import Draining
from app.api.errors import add_error_handlers
from app.api.middleware import add_middleware
from app.api.one_time_pages import add_one_time_pages
from app.api.routes import COMPATIBLE_ROUTERS, ROUTERS
from app.api.schemas.base import ErrorResponse
from app.api.socket_admission import Places
from app.core import crypto, memory
from app.core.addresses import AddressPolicy
from app.core.config import LOCAL_EMBEDDING_MODEL, OPENAI_EMBEDDING_MODEL, Settings
from app.core.errors import AppError, ServiceStopping, StartupError
from app.core.index_build import IndexBuild
from app.core.principal import SYSTEM
from app.db import embedded, migrations, queue, upkeep
from app.db.engine import Database, check_server, create_database
from app.db.files import DatabaseFiles
from app.db.notifications import Listener
from app.db.repositories import evaluations, index_state
from app.db.repositories.chunks import ScopeSizes
from app.db.repositories.index_state import IndexStateRepository
from app.rag import embedding, languages, llms
from app.rag.analysts import Analysts
from app.rag.circuits import Circuits
from app.rag.cross_encoder import CrossEncoder
from app.rag.errors import InvalidEmbeddingSettings, RagError
from app.rag.provider_http import HttpClient, ProviderClient
from app.services import (
    bots,
    budget_facts,
    bursts,
    diagnostics,
    first_run,
    indexing,
    lasting,
    maintenance,
    rebuild_work,
    relay,
)
from app.services.bot_models import BotModels
from app.services.budget_facts import BudgetFacts
from app.services.live import LiveTurns
from app.services.live_index import LiveIndex, ModelMaker
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
    describe_credentials(app)
    add_one_time_pages(app)
    for router in ROUTERS:
        app.include_router(router)
        app.include_router(router, prefix="/v1", include_in_schema=False)
    for router in COMPATIBLE_ROUTERS:
        app.include_router(router)
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
        turns = LiveTurns()
        client = await stack.enter_async_context(http_client(settings, turns=turns))
        checked = await stack.enter_async_context(
            http_client(settings, policy=provider_policy(settings), turns=turns)
        )
        live = await open_index(settings, database, client)
        if indexing.fixed_language(settings) is None:
            await asyncio.to_thread(languages.warm_up)
        build = live.served.build
        await upkeep.ensure_exact_index(database, embedding_model=build.name, dimension=build.dimension)
        cross_encoder = CrossEncoder(settings.reranker_folder) if settings.reranker_folder else None
        if cross_encoder is not None:
            stack.callback(cross_encoder.close)
        listener = Listener(
            (
                *(queue.JOBS, queue.DOCUMENTS, index_state.CHANNEL, evaluations.CHANNEL),
                *(relay.REQUESTS, relay.ANSWERS, budget_facts.CHANNEL),
            )
        )
        budgets_changed = stack.enter_context(listener.watching(budget_facts.CHANNEL))
        await stack.enter_async_context(listener.running(database))
        analysts = Analysts(settings.analysis_processes)
        stack.push_async_callback(analysts.aclose)
        await stack.enter_async_context(live.running(listener))
        runtime = Runtime(
            settings=settings,
            database=database,
            live=live,
            default_bot=bots.of_environment(settings),
            chat_model=None if settings.answers_extractively else chat_model(settings, client),
            bot_models=BotModels(settings, keyring, free=client, checked=checked),
            cross_encoder=cross_encoder,
            scope_sizes=ScopeSizes(),
            keyring=keyring,
            counters=counters,
            originals=open_storage(settings, database),
            spool=Spool(settings.data_dir / "spool"),
            listener=listener,
            web=PageFetcher(AddressPolicy(settings.reachable_networks)),
            analysts=analysts,
            budget_facts=BudgetFacts(budgets_changed, lambda: listener.is_listening),
            circuits=client.circuits,
            turns=turns,
        )
        stack.push_async_callback(runtime.background.aclose)
        await stack.enter_async_context(relay.running(runtime))
        live.room.help = partial(rebuild_work.help_once, runtime)
        yield runtime


async def open_index(settings: Settings, database: Database, client: ProviderClient) -> LiveIndex:
    """What is served, with its embedding model: that of the settings for a new or an empty index. Raises StartupError.

    An index is searched with the model that it was built with, whatever the settings name now; they may have to provide it.
    """

    def make(name: str, dimension: int | None) -> embedding.EmbeddingModel:
        return named_embedding_model(settings, client, name, dimension)

    async with database.unit_of_work(SYSTEM) as session:
        states = IndexStateRepository(session)
        build = await states.served()
        empty = await states.is_empty()
    configured = configured_model(settings)
    begun = build is not None and (build.number > 0 or not empty)
    if build is not None and (begun or embedding.same_model(build.model, configured)):
        try:
            model = make(build.model, build.requested_dimension)
            await model.warm_up()
            if model.fingerprint == build.fingerprint:
                if not embedding.same_model(build.model, configured):
                    log.warning("embedding_model_of_index", used=build.model, configured=configured)
                return _live_index(settings, database, make, build, model)
        except RagError as error:
            log.error("embedding_model_not_usable", build=build.name, reason=str(error))
    model = embedding_model(settings, client)
    try:
        await model.warm_up()
    except RagError as error:
        raise StartupError(f"The embedding model can't be used: {error}") from error
    async with database.unit_of_work(SYSTEM) as session:
        build = await IndexStateRepository(session).claim(
            embedding_model=model.fingerprint, dimension=model.dimension
        )
    if build.fingerprint != model.fingerprint:
        log.error("embedding_model_mismatch", indexed=build.fingerprint, configured=model.fingerprint)
    return _live_index(settings, database, make, build, model)


def _live_index(
    settings: Settings,
    database: Database,
    make: ModelMaker,
    build: IndexBuild,
    model: embedding.EmbeddingModel,
) -> LiveIndex:
    connections = min(settings.db_pool_size, settings.db_pool_overflow)
    return LiveIndex(
        database,
        make,
        build,
        model,
        keep_seconds=settings.index_keep_seconds,
        stored_at_once=max(1, connections // 2),
    )


def open_storage(settings: Settings, database: Database) -> originals.Originals:
    """Where original files are kept. Raises StartupError."""
    if lasting.keeps_files_in_database(settings):
        return DatabaseFiles(database)
    if problem := lasting.storage_problem(settings):
        log.error("original_files_will_be_lost", reason=problem.reason, next_step=problem.next_step)
    try:
        return originals.open_originals(settings.storage_url, folder=settings.data_dir / "originals")
    except (originals.InvalidStorageUrl, OSError) as error:
        raise StartupError(f"STORAGE_URL can't be used: {error}") from error


def http_client(
    settings: Settings, *, policy: AddressPolicy | None = None, turns: LiveTurns | None = None
) -> HttpClient:
    """Connects to where the policy lets it; without one, anywhere. Streams slower pieces where there are very many turns."""
    return HttpClient(
        connect_timeout_seconds=settings.provider_connect_timeout_seconds,
        read_timeout_seconds=settings.provider_first_token_timeout_seconds,
        policy=policy,
        circuits=Circuits(
            failures=settings.provider_breaker_failures, pause_seconds=settings.provider_breaker_seconds
        ),
        pause_seconds=(lambda: turns.breath_seconds) if turns is not None else lambda: 0.0,
    )


def provider_policy(settings: Settings) -> AddressPolicy:
    """Where an admin may send the service for its models."""
    return AddressPolicy(settings.allowed_provider_networks)


def configured_model(settings: Settings) -> str:
    """The embedding model of a new installation."""
    if settings.uses_local_embeddings:
        return LOCAL_EMBEDDING_MODEL
    return settings.embedding_model or OPENAI_EMBEDDING_MODEL


def embedding_model(settings: Settings, client: ProviderClient) -> embedding.EmbeddingModel:
    if settings.uses_local_embeddings and settings.embedding_model not in (
        None,
        "local",
        LOCAL_EMBEDDING_MODEL,
    ):
        log.warning("no_provider_key", wanted=settings.embedding_model, used=LOCAL_EMBEDDING_MODEL)
    return named_embedding_model(settings, client, configured_model(settings), None)


def named_embedding_model(
    settings: Settings, client: ProviderClient, name: str, dimension: int | None
) -> embedding.EmbeddingModel:
    """Any embedding model that the settings provide. Raises InvalidEmbeddingSettings for others."""
    if embedding.is_local(name):
        config = embedding.EmbeddingConfig(provider="local", model=LOCAL_EMBEDDING_MODEL, dimension=dimension)
        return embedding.build(config, None)
    if settings.openai_api_key is None:
        raise InvalidEmbeddingSettings(f"{name} needs OPENAI_API_KEY")
    return embedding.build(
        embedding.EmbeddingConfig(
            provider="openai",
            model=name,
            api_key=settings.openai_api_key.get_secret_value(),
            base_url=settings.openai_base_url,
            dimension=dimension,
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
