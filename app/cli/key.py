"""`ibid key`: API keys, made by whoever sits at the machine: the way back in when the first one was lost."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import terminal
from app.core import origin

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from app.core.config import Settings
    from app.services.api_keys import MadeKey

app = typer.Typer(no_args_is_help=True, help="API keys of the default organization.")


@app.callback()
def _group() -> None:
    pass


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="chat, search, ingest, read or manage; can be repeated. Default: all."),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days until it expires. Default: never.")
    ] = None,
    bot: Annotated[
        str | None, typer.Option(help="Id of the only bot that it may talk to; its scope is chat then.")
    ] = None,
    rate_limit: Annotated[
        str | None, typer.Option(help="Its own limit, like 100/minute. Default: none.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make an API key of the default organization; it is shown once."""
    settings = terminal.start()
    made = terminal.run(lambda: _create(settings, name, scope or [], days, rate_limit, bot))
    if as_json:
        terminal.print_json({"id": made.row.id, "name": made.row.name, "key": made.secret})
        return
    terminal.results().print(made.secret)
    terminal.notes().print("This is the only time that it is shown.")


async def _create(
    settings: "Settings",
    name: str,
    scopes: list[str],
    days: int | None,
    rate_limit: str | None,
    bot_id: str | None,
) -> "MadeKey":
    from datetime import timedelta

    from app.core import clock, rates
    from app.core.principal import ALL_SCOPES, Scope
    from app.services import api_keys

    try:
        wanted = api_keys.NewKey(
            name=name,
            scopes=frozenset(map(Scope, scopes)) or (frozenset({Scope.CHAT}) if bot_id else ALL_SCOPES),
            collection_ids=None,
            expires_at=clock.now() + timedelta(days=days) if days else None,
            rate_limit=rate_limit,
            bot_id=bot_id,
        )
        if rate_limit:
            rates.own_rates(rate_limit)
    except ValueError as error:
        reason = str(error)
        raise terminal.CommandFailed(
            reason[:1].upper() + reason[1:] + ".", "See: ibid key create --help"
        ) from error
    async with terminal.open_service(settings, set_up=True) as service:
        with origin.acting(service.principal):
            return await api_keys.create(service.runtime, service.principal, wanted)
