"""`ibid doctor`: what works, what does not, and what to do about it."""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from app.cli import terminal
from app.core.errors import AppError, StartupError

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from app.core.config import Settings
    from app.rag.embedding import EmbeddingModel
    from app.services.checks import Check

_COLORS: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check everything that the service needs, and say what to do where something is wrong."""
    found = terminal.run(_checks)
    failed = any(check.status == "fail" for check in found)
    if as_json:
        terminal.print_json({"ok": not failed, "checks": [_as_json(check) for check in found]})
    else:
        terminal.results().print(_table(found))
    if failed:
        raise typer.Exit(1)


async def _checks() -> "list[Check]":
    with terminal.status("Checking …"):
        return await _examine()


async def _examine() -> "list[Check]":
    from app.services import checks

    found = [checks.python_version()]
    try:
        settings = terminal.start(log_level="error")
    except StartupError as error:
        return [
            *found,
            checks.fail("settings", str(error), "Correct them in the environment or in .env."),
        ]
    found += [
        checks.ok("settings", "valid"),
        checks.secret_key(settings),
        checks.data_directory(settings),
        checks.storage(settings),
        await checks.port(settings),
    ]
    async with AsyncExitStack() as stack:
        model = await _models(settings, stack, found)
        await _database(settings, model, found)
    return found


async def _models(
    settings: "Settings", stack: AsyncExitStack, found: "list[Check]"
) -> "EmbeddingModel | None":
    """Check the models; returns the embedding model if it works."""
    from app import providers
    from app.rag.errors import RagError
    from app.services import checks, diagnostics

    client = await stack.enter_async_context(providers.http_client(settings))
    try:
        model = providers.embedding_model(settings, client)
    except RagError as error:
        found.append(checks.fail("embedding model", str(error), "Correct EMBEDDING_MODEL and the provider."))
        return None
    stack.push_async_callback(model.aclose)
    embeds = await diagnostics.embedding(model)
    chat_model = None if settings.answers_extractively else providers.chat_model(settings, client)
    found += [embeds, await diagnostics.chat(chat_model, settings)]
    return model if embeds.status == "ok" else None


async def _database(settings: "Settings", model: "EmbeddingModel | None", found: "list[Check]") -> None:
    from app.services import checks, diagnostics

    try:
        async with terminal.open_database(settings, migrate=False) as database:
            with terminal.database_problems():
                async for check in diagnostics.database(database, settings, model):
                    found.append(check)
    except terminal.CommandFailed as error:
        found.append(checks.fail("database", error.reason, error.next_step))
    except (StartupError, AppError) as error:
        found.append(checks.fail("database", str(error), "Then run `ibid doctor` again."))


def _as_json(check: "Check") -> dict[str, str | None]:
    return {
        "name": check.name,
        "status": check.status,
        "message": check.message,
        "next_step": check.next_step,
    }


def _table(found: "list[Check]") -> Table:
    table = Table()
    for name in ("check", "result", "found", "what to do"):
        table.add_column(name, overflow="fold")
    for check in found:
        table.add_row(
            check.name,
            Text(check.status, style=_COLORS[check.status]),
            terminal.printable(check.message),
            terminal.printable(check.next_step or ""),
        )
    return table
