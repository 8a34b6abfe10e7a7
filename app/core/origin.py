"""Where the work at hand comes from: a request's client, its id, and who turned out to be asking.

It travels beside the calls, not through them: a service can neither forget to pass it on nor make it up. Every
transaction tells it to the database (`app.db.engine`), which writes the audit log.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache

from asgi_correlation_id import correlation_id

from app.core.audit import ActorKind
from app.core.json_bytes import to_json
from app.core.principal import Principal, PrincipalKind


@dataclass(frozen=True, slots=True)
class Origin:
    """`principal` is None until somebody was recognised."""

    address: str | None
    principal: Principal | None = None


_current: ContextVar[Origin | None] = ContextVar("origin", default=None)


@contextmanager
def request(address: str) -> Iterator[None]:
    """The block is a request from this address; nobody is recognised yet."""
    token = _current.set(Origin(address))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def acting(principal: Principal) -> Iterator[None]:
    """The block is this one's doing, without a request: at the command line."""
    token = _current.set(Origin(None, principal))
    try:
        yield
    finally:
        _current.reset(token)


def recognise(principal: Principal) -> None:
    """From here on the request is this caller's."""
    if (origin := _current.get()) is not None:
        _current.set(replace(origin, principal=principal))


def address() -> str | None:
    """The client's address, within a request."""
    origin = _current.get()
    return None if origin is None else origin.address


def described(principal: Principal) -> str:
    """The origin of a transaction as this principal, in JSON: kind, id, address and request. Empty for the system's own.

    A request's transactions are its caller's, also those in which the system acts on the caller's behalf.
    """
    origin = _current.get()
    if principal.kind is PrincipalKind.SYSTEM:
        if origin is None:
            return ""
        kind, actor_id = ActorKind.ANONYMOUS.value, None
        if origin.principal is not None:
            kind, actor_id = origin.principal.kind.value, origin.principal.id
    else:
        kind, actor_id = principal.kind.value, principal.id
    return _json(kind, actor_id, None if origin is None else origin.address, correlation_id.get())


@lru_cache(maxsize=1024)
def _json(kind: str, actor_id: str | None, address: str | None, request_id: str | None) -> str:
    """The same for the several transactions of a request, so it is written once."""
    told = {"kind": kind, "id": actor_id, "address": address, "request_id": request_id}
    return to_json(told).decode()
