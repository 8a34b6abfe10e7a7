"""`ibid user create` and `ibid key create`: accounts and keys made by whoever sits at the machine."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import terminal
from app.core import origin

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from datetime import datetime

    from app.core.config import Settings
    from app.core.principal import Principal, Role, Scope

user_app = typer.Typer(no_args_is_help=True, help="Accounts of people.")
key_app = typer.Typer(no_args_is_help=True, help="API keys.")

Organization = Annotated[
    str | None, typer.Option("--organization", metavar="ID", help="Its id; the first one where left out.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


@user_app.callback()
@key_app.callback()
def _group() -> None:
    pass


@user_app.command("create")
def create_user(
    email: Annotated[str, typer.Argument(help="E-mail address, by which the person logs in.")],
    role: Annotated[str, typer.Option(help="user, admin or superadmin.")] = "user",
    name: Annotated[str, typer.Option(help="The person's name.")] = "",
    organization: Organization = None,
    ask_password: Annotated[
        bool, typer.Option("--ask-password", help="Ask for the password; else the person sets it by a link.")
    ] = False,
    as_json: Json = False,
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


@key_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scopes: Annotated[
        str, typer.Option(help="Separated by commas: chat, search, ingest, read, manage.")
    ] = "chat,search,ingest,read",
    expires_days: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=36_500, help="Days until it expires; never where left out."),
    ] = None,
    collections: Annotated[
        str | None,
        typer.Option(metavar="IDS", help="Ids of the only collections it reaches, separated by commas."),
    ] = None,
    organization: Organization = None,
    as_json: Json = False,
) -> None:
    """Make an API key. It is shown once."""
    settings = terminal.start()
    wanted = _checked_scopes(scopes)
    only = frozenset(_parts(collections)) if collections else None
    made = terminal.run(lambda: _create_key(settings, organization, name, wanted, only, expires_days))
    if as_json:
        terminal.print_json(made)
        return
    terminal.notes().print(
        f"{made['id']} of {made['organization_id']}: note the key down, it is not shown again."
    )
    terminal.results().print(made["key"])


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


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


def _checked_scopes(text: str) -> "frozenset[Scope]":
    from app.core.principal import Scope

    try:
        scopes = frozenset(Scope(part) for part in _parts(text))
    except ValueError as error:
        raise terminal.CommandFailed(f"{error}.", f"Choose from {', '.join(Scope)}.") from None
    if not scopes:
        raise terminal.CommandFailed("A key needs a scope.", f"Choose from {', '.join(Scope)}.")
    return scopes


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


async def _create_key(
    settings: "Settings",
    organization: str | None,
    name: str,
    scopes: "frozenset[Scope]",
    collection_ids: frozenset[str] | None,
    expires_days: int | None,
) -> dict[str, Any]:
    from app.services import api_keys

    wanted = api_keys.NewKey(name, scopes, collection_ids, expires_at=_expiry(expires_days))
    async with terminal.open_service(settings, set_up=True) as service:
        principal = await _acting(service, organization)
        with origin.acting(principal):
            made = await api_keys.create(service.runtime, principal, wanted)
    return {
        "id": made.row.id,
        "organization_id": made.row.organization_id,
        "name": made.row.name,
        "scopes": made.row.scopes,
        "collection_ids": made.row.collection_ids,
        "expires_at": made.row.expires_at.isoformat() if made.row.expires_at else None,
        "key": made.secret,
    }


def _expiry(days: int | None) -> "datetime | None":
    from datetime import timedelta

    from app.core import clock

    return clock.now() + timedelta(days=days) if days else None


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
