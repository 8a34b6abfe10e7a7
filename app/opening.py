"""What every process of the service has open: the database, the index with its models, and what goes with them."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog

from app import providers
from app.core import crypto
from app.core.addresses import AddressPolicy
from app.core.config import Settings
from app.core.errors import StartupError
from app.core.index_build import IndexBuild
from app.core.principal import SYSTEM
from app.db import embedded, migrations, queue, upkeep
from app.db.engine import Database, check_server, create_database
from app.db.files import DatabaseFiles
from app.db.notifications import Listener
from app.db.repositories import evaluations, index_state
from app.db.repositories.chunks import ScopeSizes
from app.db.repositories.index_state import IndexStateRepository
from app.rag import embedding, languages
from app.rag.analysts import Analysts
from app.rag.cross_encoder import CrossEncoder
from app.rag.errors import RagError
from app.rag.provider_http import ProviderClient
from app.services import bots, budget_facts, bursts, checks, indexing, lasting, rebuild_work, relay
from app.services.bot_models import BotModels
from app.services.budget_facts import BudgetFacts
from app.services.live_index import LiveIndex, ModelMaker
from app.services.live_turns import LiveTurns
from app.services.runtime import Runtime
from app.services.web_pages import PageFetcher
from app.storage import originals
from app.storage.spool import Spool

log = structlog.get_logger(__name__)


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
            if problem := checks.url_problem(settings):
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
        client = await stack.enter_async_context(providers.http_client(settings, turns=turns))
        checked = await stack.enter_async_context(
            providers.http_client(settings, policy=providers.provider_policy(settings), turns=turns)
        )
        live = await open_index(settings, database, client)
        if indexing.fixed_language(settings) in (None, languages.UNKNOWN):
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
            chat_model=None if settings.answers_extractively else providers.chat_model(settings, client),
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
        return providers.named_embedding_model(settings, client, name, dimension)

    async with database.unit_of_work(SYSTEM) as session:
        states = IndexStateRepository(session)
        build = await states.served()
        empty = await states.is_empty()
    configured = providers.configured_model(settings)
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
    model = providers.embedding_model(settings, client)
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
