"""`ibid serve` and `ibid migrate`."""

import asyncio
import os
import sys
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from app.core import logging
from app.core.config import Settings
from app.core.errors import StartupError


def load_settings() -> Settings:
    """The settings of the environment. Raises StartupError that names every setting that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"{str(p['loc'][-1]).upper()}: {p['msg']}" for p in error.errors())
        raise StartupError(f"Some settings are not valid: {problems}") from None


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (setting HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (setting PORT).")] = None,
) -> None:
    """Start the service: database, migrations, API."""
    settings = load_settings()
    settings = settings.model_copy(
        update={key: value for key, value in (("host", host), ("port", port)) if value is not None}
    )
    logging.configure(level=settings.log_level, log_format=settings.log_format)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import uvicorn  # with the application it takes seconds, which `ibid --help` need not wait for

    from app.cli.welcome import welcome
    from app.main import create_app

    app = create_app(settings, announce=lambda credentials: welcome(settings, credentials))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http="h11",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=settings.shutdown_timeout_seconds,
        )
    )
    _run(server)


def _run(server: "object") -> None:
    import uvicorn

    assert isinstance(server, uvicorn.Server)
    server.run()
    if not server.started:
        raise StartupError("The service did not start; the reason is in the lines above.")


def migrate(
    revision: Annotated[str, typer.Argument(help="Where to migrate to.")] = "head",
    down: Annotated[
        bool, typer.Option("--down", help="Go back to that revision; data of later ones is lost.")
    ] = False,
) -> None:
    """Bring the database to the schema of this version."""
    settings = load_settings()
    logging.configure(level=settings.log_level, log_format=settings.log_format)
    asyncio.run(_migrate(settings, revision, down))


async def _migrate(settings: Settings, revision: str, down: bool) -> None:
    from app.db import migrations
    from app.main import open_database

    async with open_database(settings, migrate=False) as database:
        before = await migrations.current(database)
        await (migrations.downgrade if down else migrations.upgrade)(database, revision)
        after = await migrations.current(database)
    change = f"migrated from {before or 'empty'} to {after or 'empty'}"
    Console(file=sys.stderr).print(
        f"The database is at {after}." if before == after else f"The database was {change}."
    )
