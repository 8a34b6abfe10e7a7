"""`ibid user`: accounts, made and mended by whoever sits at the machine."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import terminal
from app.core import origin

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from app.core.config import Settings
    from app.core.principal import Principal, Role

app = typer.Typer(no_args_is_help=True, help="Accounts of people.")


@app.callback()
def _group() -> None:
    pass


@app.command("create")
def create(
    email: Annotated[str, typer.Argument(help="E-mail address, by which the person logs in.")],
    role: Annotated[str, typer.Option(help="user, admin or superadmin.")] = "user",
    name: Annotated[str, typer.Option(help="The person's name.")] = "",
    organization: Annotated[
        str | None, typer.Option(metavar="ID", help="Its id; the first one where left out.")
    ] = None,
    ask_password: Annotated[
        bool, typer.Option("--ask-password", help="Ask for the password; else the person sets it by a link.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Make an account, and a one-time link by which the person sets the password."""
    settings = terminal.start()
    person = _checked_person(email, name, role)
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True) if ask_password else None
    if password is not None:
        _check_password(password)
    made = terminal.run(lambda: _create_user(settings, organization, *person, password))
    if as_json:
        terminal.print_json(made)
        return
    terminal.results().print(f"{made['id']}  {made['email']}  {made['role']}")
    if made["password_token"]:
        terminal.notes().print("Hand this to the person; it is not shown again and works once:")
        terminal.results().print(made["password_url"] or made["password_token"])
        if not made["password_url"]:
            terminal.notes().print(
                "It is the token for POST /auth/password-reset (set PUBLIC_URL for a link)."
            )


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


def _checked_person(email: str, name: str, role: str) -> "tuple[str, str, Role]":
    """As POST /users checks them. Raises CommandFailed."""
    from pydantic import ValidationError

    from app.api.schemas.users import UserCreate

    try:
        checked = UserCreate.model_validate({"email": email, "name": name, "role": role})
    except ValidationError as error:
        problem = error.errors()[0]
        raise terminal.CommandFailed(
            f"{str(problem['loc'][0]).capitalize()}: {problem['msg']}.",
            "`ibid user create --help` shows an example.",
        ) from None
    return checked.email, checked.name, checked.role


def _check_password(password: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from app.api.schemas.credentials import NewPassword

    try:
        TypeAdapter(NewPassword).validate_python(password)
    except ValidationError:
        raise terminal.CommandFailed("The password is not fit.", "Use 10 to 256 characters.") from None


async def _create_user(
    settings: "Settings", organization: str | None, email: str, name: str, role: "Role", password: str | None
) -> dict[str, Any]:
    from app.services import users

    async with terminal.open_service(settings, set_up=True) as service:
        principal = await _acting(service, organization)
        with origin.acting(principal):
            user, link = await users.create(
                service.runtime, principal, email=email, name=name, role=role, password=password
            )
    return {
        "id": user.id,
        "organization_id": user.organization_id,
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "password_token": link.token if link else None,
        "password_url": link.url if link else None,
    }


async def _acting(service: terminal.Service, organization_id: str | None) -> "Principal":
    """Who sits at the machine may do everything, in the organization named. Raises CommandFailed."""
    from dataclasses import replace

    from app.core.principal import Role
    from app.services import organizations

    operator = replace(service.principal, role=Role.SUPERADMIN)
    if organization_id is None:
        return operator
    found = await organizations.get(service.runtime, operator, organization_id)
    return replace(operator, organization_id=found.id)
