"""The command line: `ibid`. One module a command group; heavy imports wait until a command needs them."""

import signal
import sys
from typing import Annotated

import typer

from app import __version__
from app.cli import ask, bot, doctor, evaluate, ingest, key, keys, search, serve, terminal, user, worker
from app.core.errors import AppError, StartupError

app = typer.Typer(
    name="ibid",
    help="Answers from your own documents, with citations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("worker")(worker.worker)
app.command("ingest")(ingest.ingest)
app.command("ask")(ask.ask)
app.command("search")(search.search)
app.command("eval")(evaluate.evaluate)
app.command("doctor")(doctor.doctor)
app.command("migrate")(serve.migrate)
app.add_typer(bot.app, name="bot")
app.add_typer(key.app, name="key")
app.add_typer(keys.app, name="keys")
app.add_typer(user.app, name="user")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ibid {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run a command; an error that a person can mend is a sentence, not a traceback."""
    # As process 1 of a container nothing would end it without this, and imports take seconds.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    terminal.prepare_streams()
    try:
        app()
    except (terminal.CommandFailed, StartupError, AppError) as error:
        print(f"ibid: {terminal.sentence(error)}", file=sys.stderr)
        sys.exit(1)
