"""The web service: settings in, an application out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

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
from app.core.config import Settings
from app.core.errors import AppError, ServiceStopping, StartupError
from app.opening import open_database, open_runtime
from app.services import first_run, maintenance
from app.services.runtime import Runtime

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
