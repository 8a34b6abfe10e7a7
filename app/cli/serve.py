"""`ibid serve` and `ibid migrate`."""

import logging as stdlib_logging
import os
import signal
import socket
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import terminal
from app.core.errors import StartupError

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from app.core.config import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (setting HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (setting PORT).")] = None,
) -> None:
    """Start the service: database, migrations, API."""
    settings = terminal.load_settings()
    settings = settings.model_copy(
        update={key: value for key, value in (("host", host), ("port", port)) if value is not None}
    )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from app.core import logging

    logging.configure(level=settings.log_level, log_format=settings.log_format)
    from app.api.connections import DrainingServer, server_config
    from app.cli.welcome import welcome
    from app.main import create_app

    app = create_app(settings)

    class Server(DrainingServer):
        async def startup(self, sockets: "list[socket.socket] | None" = None) -> None:
            await super().startup(sockets)
            if self.started:  # only now do the printed commands reach it
                welcome(settings, app.state.credentials)

    server = Server(
        server_config(app, settings, host=settings.host, port=settings.port),
        draining=app.state.draining,
        seconds=settings.shutdown_timeout_seconds,
    )
    # A start that failed for a reason is told as one sentence below, not as uvicorn's traceback of it.
    stdlib_logging.getLogger("uvicorn.error").addFilter(lambda _: not hasattr(app.state, "startup_error"))
    try:
        server.run()
    except SystemExit as error:
        if server.started:  # stopped in good order; to whoever sent SIGTERM, let it look like that
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
            return  # process 1 is not ended by it
        if error.code == 128 + signal.SIGTERM:
            raise
        if reason := getattr(app.state, "startup_error", None):
            raise reason from None
        raise StartupError(f"The service did not start. Is port {settings.port} in use?") from error


def migrate(
    revision: Annotated[str, typer.Argument(help="Where to migrate to.")] = "head",
    down: Annotated[
        bool, typer.Option("--down", help="Go back to that revision; data of later ones is lost.")
    ] = False,
) -> None:
    """Bring the database to the schema of this version."""
    settings = terminal.load_settings()
    from app.core import logging

    logging.configure(level=settings.log_level, log_format=settings.log_format)
    terminal.run(lambda: _migrate(settings, revision, down))


async def _migrate(settings: "Settings", revision: str, down: bool) -> None:
    from app.db import migrations

    async with terminal.open_database(settings, migrate=False) as database:
        before = await migrations.current(database)
        await (migrations.downgrade if down else migrations.upgrade)(database, revision)
        after = await migrations.current(database)
    change = f"migrated from {before or 'empty'} to {after or 'empty'}"
    terminal.notes().print(
        f"The database is at {after}." if before == after else f"The database was {change}."
    )
