"""`ibid keys`: the secret keys that encrypt what is stored."""

from typing import TYPE_CHECKING

import typer

from app.cli import terminal

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from app.core.config import Settings

app = typer.Typer(no_args_is_help=True, help="The secret keys that encrypt what is stored.")


@app.callback()
def _group() -> None:
    pass


@app.command("rotate")
def rotate() -> None:
    """Encrypt stored secrets under the first key of SECRET_KEY, so that the others can be dropped."""
    settings = terminal.start()
    count = terminal.run(lambda: _rotate(settings))
    terminal.notes().print(
        f"{count} stored secrets are under the first key now. The other keys can leave SECRET_KEY once the access"
        " tokens that they signed have expired (ACCESS_TOKEN_MINUTES)."
    )


async def _rotate(settings: "Settings") -> int:
    from app.core import crypto
    from app.services import secret_rotation

    keyring = crypto.load(settings)
    async with terminal.open_database(settings) as database:
        return await secret_rotation.rotate(database, keyring)
