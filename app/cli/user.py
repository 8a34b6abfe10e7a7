"""`ibid user`: accounts, mended by whoever sits at the machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import terminal

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from app.core.config import Settings

app = typer.Typer(no_args_is_help=True, help="Accounts of people.")


@app.callback()
def _group() -> None:
    pass


@app.command("password")
def password(email: Annotated[str, typer.Argument(help="E-mail address of the account.")]) -> None:
    """Give an account a new password, shown once; all its logins end. Its second factor stays."""
    settings = terminal.start()
    terminal.results().print(terminal.run(lambda: _replace(settings, email)))
    terminal.notes().print("This is the only time that it is shown.")


async def _replace(settings: "Settings", email: str) -> str:
    from app.services import passwords

    async with terminal.open_database(settings) as database:
        with terminal.database_problems():
            new = await passwords.replace(database, email.strip().lower())
    if new is None:
        raise terminal.CommandFailed("There is no account with this e-mail address.", "Check the spelling.")
    return new
