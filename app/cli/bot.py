"""`ibid bot`: bots of the default organization, by whoever sits at the machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import terminal
from app.core import origin
from app.core.bots import Provider

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from app.core.config import Settings
    from app.services.bot_care import Described
    from app.services.bot_trial import Trial

app = typer.Typer(no_args_is_help=True, help="Bots of the default organization.")

_PAGE = 200
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def _group() -> None:
    pass


@app.command("list")
def list_bots(as_json: AsJson = False) -> None:
    """The newest bots (up to 200): their ids, models and versions."""
    settings = terminal.start()
    bots = terminal.run(lambda: _list(settings))
    if as_json:
        terminal.print_json([_row(bot) for bot in bots])
        return
    from rich.table import Table  # as all of rich, not for `--help`

    table = Table("id", "name", "provider", "model", "version", box=None)
    for bot in bots:
        table.add_row(*(str(value) for value in _row(bot).values()))
    terminal.results().print(table)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="How users know it.")],
    provider: Annotated[Provider, typer.Option(help="Whose model answers.")],
    model: Annotated[str, typer.Option(help="The model; none for extractive.")] = "",
    base_url: Annotated[
        str | None,
        typer.Option(help="Of an openai-compatible server or of ollama; here any address will do."),
    ] = None,
    key_from: Annotated[
        Path | None, typer.Option(help="File with the API key; - reads it from standard input.")
    ] = None,
    persona: Annotated[str, typer.Option(help="Who it is and how it speaks.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a bot."""
    settings = terminal.start()
    fields: dict[str, Any] = {
        "name": name,
        "provider": provider,
        "model": model or None,
        "base_url": base_url,
        "api_key": _key(key_from),
        "persona": persona,
    }
    made = terminal.run(lambda: _create(settings, fields))
    if as_json:
        terminal.print_json(_row(made))
        return
    terminal.results().print(made.bot.id)
    terminal.notes().print(f'Ask it with {{"bot_id": "{made.bot.id}"}}; try its model: ibid bot try "{name}"')


@app.command("try")
def try_bot(
    bot: Annotated[str, typer.Argument(help="Its name or id.")],
    as_json: AsJson = False,
) -> None:
    """Ask a bot's model one tiny thing; ends with 1 when it does not answer."""
    settings = terminal.start()
    tried = terminal.run(lambda: _try(settings, bot))
    if as_json:
        terminal.print_json({"ok": tried.ok, "outcome": tried.outcome, "message": tried.message})
    else:
        terminal.results().print(tried.message)
    if not tried.ok:
        raise typer.Exit(1)


def _row(described: "Described") -> dict[str, Any]:
    model = described.content.settings.model
    return {
        "id": described.bot.id,
        "name": described.bot.name,
        "provider": model.provider.value,
        "model": model.model,
        "version": described.bot.version,
    }


def _key(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        text = typer.get_text_stream("stdin").read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise terminal.CommandFailed(
            f"The key can't be read from {path}.", "Give a file that has it."
        ) from error
    return text.strip() or None


async def _list(settings: "Settings") -> list["Described"]:
    from app.services import bot_care

    async with (
        terminal.open_service(settings, set_up=True) as service,
        service.runtime.database.unit_of_work(service.principal) as session,
    ):
        page, _ = await bot_care.newest(session, service.principal, limit=_PAGE, after=None, offset=0)
        return page


async def _create(settings: "Settings", fields: dict[str, Any]) -> "Described":
    from pydantic import ValidationError

    from app.api.schemas.bots import CreateBotRequest
    from app.services import bot_care

    try:
        wanted = CreateBotRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise terminal.CommandFailed(
            f"{first['loc'][0]}: {first['msg']}.", "See: ibid bot create --help"
        ) from None
    async with terminal.open_service(settings, set_up=True) as service:
        with origin.acting(service.principal):
            async with service.runtime.database.unit_of_work(service.principal) as session:
                return await bot_care.create(
                    service.runtime,
                    session,
                    service.principal,
                    bot_care.Wanted(
                        columns={"name": wanted.name}, settings=wanted.settings, keys=wanted.keys
                    ),
                )


async def _try(settings: "Settings", bot: str) -> "Trial":
    from app.core.errors import BotNotFound
    from app.services import bot_care, bot_trial

    async with terminal.open_service(settings, set_up=True) as service:
        async with service.runtime.database.unit_of_work(service.principal) as session:
            page, _ = await bot_care.newest(session, service.principal, limit=_PAGE, after=None, offset=0)
        found = [described.bot.id for described in page if bot in (described.bot.id, described.bot.name)]
        if not found:
            raise BotNotFound
        return await bot_trial.of_bot(service.runtime, service.principal, found[0])
