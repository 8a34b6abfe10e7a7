"""What the commands share: settings, quiet logs, the open service, and how results and errors reach the terminal.

Results go to standard output; progress, notes, logs and errors go to standard error.
"""

import asyncio
import importlib
import io
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import typer
from rich.console import Console

from app.core import errors

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from app.core.config import Settings
    from app.core.principal import Principal
    from app.db.engine import Database
    from app.services.runtime import Runtime

T = TypeVar("T")

INTERRUPTED: Final = 130
BY_WORDS: Final = (
    "The embedding model could not be asked ({code}): the documents were searched by their words alone."
)
_PIPE_WIDTH: Final = 120
_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class CommandFailed(Exception):
    """The command can't do what was asked; `next_step` is what the person can do about it."""

    def __init__(self, reason: str, next_step: str) -> None:
        super().__init__(f"{reason} {next_step}")
        self.reason = reason
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Service:
    """What a command works with: everything open, and who acts."""

    runtime: "Runtime"
    principal: "Principal"


def prepare_streams() -> None:
    """A terminal that can't show a character gets an escape in its place, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def results() -> Console:
    """Standard output; as wide as the terminal, and wide enough to read in a pipe."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=_PIPE_WIDTH if piped else None, markup=False, emoji=False, highlight=False)


def notes() -> Console:
    """Standard error, where everything goes that is not the result."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """Without what could command the terminal: texts of documents and models are not to be trusted."""
    return _UNPRINTABLE.sub("\ufffd", text)


def one_line(text: str, *, limit: int) -> str:
    """Printable, on one line, cut at a word."""
    line = " ".join(printable(text).split())
    if len(line) <= limit:
        return line
    return line[:limit].rsplit(" ", 1)[0] + " …"


def print_json(value: Any) -> None:
    """The one thing that a command with `--json` prints to standard output."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=2, ensure_ascii=not unicode))


def load_settings() -> "Settings":
    """The settings of the environment. Raises StartupError that names every setting that is wrong."""
    from pydantic import ValidationError

    from app.core.config import Settings

    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])).upper() or 'settings'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise errors.StartupError(f"Some settings are not valid: {problems}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise errors.StartupError(
            f"The file .env can't be read ({error}). Make it a UTF-8 file that this user may read."
        ) from None


def start(*, log_level: Literal["warning", "error"] = "warning") -> "Settings":
    """The settings, with logs quiet: a command says itself what it does. Raises StartupError."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    settings = load_settings()
    from app.core import logging

    level = "error" if settings.log_level == "error" else log_level
    logging.configure(level=level, log_format=settings.log_format)
    return settings


def status(doing: str) -> AbstractContextManager[object]:
    """Say what is being waited for, to somebody who watches."""
    return notes().status(doing) if sys.stderr.isatty() else nullcontext()


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of the work; Ctrl-C ends it in good order, with exit code 130."""
    try:
        with status("Starting …"):
            importlib.import_module(
                "app.opening"
            )  # before the event loop, in which Ctrl-C would have to wait
        return asyncio.run(work())
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def database_problems() -> Iterator[None]:
    """A database that can't be used is a sentence with what to do. Raises CommandFailed."""
    from app.services import diagnostics

    try:
        yield
    except (CommandFailed, errors.AppError):
        raise
    except Exception as error:
        problem = diagnostics.connection_problem(error)
        if problem is None:
            raise
        raise CommandFailed(*problem) from error


@asynccontextmanager
async def open_database(settings: "Settings", *, migrate: bool | None = None) -> AsyncIterator["Database"]:
    """As `app.opening.open_database`; raises CommandFailed and StartupError."""
    from app import opening
    from app.services import checks

    if problem := checks.url_problem(settings):
        raise CommandFailed(*problem)
    async with AsyncExitStack() as stack:
        # The embedded server's own errors speak of the data directory, not of DB_URL.
        with database_problems() if settings.db_url else nullcontext():
            database = await stack.enter_async_context(opening.open_database(settings, migrate=migrate))
        yield database


@asynccontextmanager
async def open_service(settings: "Settings", *, set_up: bool = False) -> AsyncIterator[Service]:
    """Database, models and operator. With `set_up` an empty database gets its organization, and the key is shown.

    Raises CommandFailed and StartupError.
    """
    from app.core import crypto
    from app.opening import open_runtime

    async with AsyncExitStack() as stack:
        await asyncio.to_thread(crypto.load, settings)  # before anything is made that is shown once
        with status("Starting …"):
            database = await stack.enter_async_context(open_database(settings))
            with database_problems():
                await _require_schema(settings, database)
                if set_up:
                    await _set_up(settings, database)
                principal = await _operator(database)
            runtime = await stack.enter_async_context(open_runtime(settings, database))
        yield Service(runtime, principal)


async def _set_up(settings: "Settings", database: "Database") -> None:
    from app.cli import welcome
    from app.services import first_run

    if credentials := await first_run.prepare(database, settings):
        print(welcome.first_credentials(credentials), file=sys.stderr)


async def _require_schema(settings: "Settings", database: "Database") -> None:
    """Where nothing migrates at the start, an old schema is found before it fails a query."""
    from app.db import migrations

    if not settings.migrate_on_start and await migrations.current(database) != migrations.head():
        raise CommandFailed("The database has not the schema of this version.", "Run: ibid migrate")


async def _operator(database: "Database") -> "Principal":
    from app.services import first_run

    try:
        return await first_run.operator(database)
    except errors.StartupError as error:
        raise CommandFailed("Nothing has been ingested yet.", "Start with: ibid ingest FOLDER") from error


_NEXT_STEPS: Final[dict[type[errors.AppError], str]] = {
    errors.TextTooLarge: "Split it, or raise INGEST_MAX_TEXT_BYTES.",
    errors.BlankText: "Leave it out, or put text into it.",
    errors.CollectionNotFound: "Leave out --collection to use the default one.",
    errors.SessionNotFound: "Leave out --session to start a new one.",
    errors.StorageFull: "Free space on the disk of the database, then run the command again.",
    errors.DatabaseUnavailable: "`ibid doctor` says what is wrong with it.",
    errors.ProviderError: "`ibid doctor` checks the provider's settings.",
    errors.ProviderUnavailable: "`ibid doctor` checks the provider.",
    errors.ProviderTimeout: "Try again, or raise PROVIDER_FIRST_TOKEN_TIMEOUT_SECONDS.",
}


def next_step(error: BaseException) -> str | None:
    """What a person at the command line can do about it, where the message itself does not say."""
    return next((step for kind, step in _NEXT_STEPS.items() if isinstance(error, kind)), None)


def sentence(error: BaseException) -> str:
    """The error in words, with what to do next."""
    return printable(" ".join(filter(None, (str(error), next_step(error)))))
