"""Who may call which route. A new route needs a row here: `ROWS` is compared with the routes of the application."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import count
from typing import Any

from app.core import clock, ids, security
from app.core.access import Permission
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role, Scope
from app.db import queue
from app.db.repositories.api_keys import ApiKeyRepository
from app.db.repositories.collections import AccessListRepository, CollectionRepository
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.one_time import OneTimeRepository
from app.db.repositories.places import PlaceRepository
from app.db.repositories.turns import NewTurn, TurnRepository
from app.db.repositories.versions import VersionRepository
from tests.fixtures.accounts import PASSWORD, Person, new_organization, new_person
from tests.fixtures.service import Service

_numbers = count(1)


class Persona(StrEnum):
    """Everybody who might call. All people but the last have a second factor."""

    ANONYMOUS = "anonymous"
    USER = "user"
    ADMIN = "admin"
    SUPERADMIN = "superadmin"
    OTHER_USER = "user of another organization"
    OTHER_ADMIN = "admin of another organization"
    CHAT_KEY = "key with scope chat"
    SEARCH_KEY = "key with scope search"
    INGEST_KEY = "key with scope ingest"
    READ_KEY = "key with scope read"
    MANAGE_KEY = "key with scope manage"
    REVOKED_KEY = "revoked key"
    EXPIRED_KEY = "expired key"
    DEACTIVATED = "deactivated admin"
    REFRESH_TOKEN = "refresh token as access token"
    BEFORE_TOTP = "admin before TOTP"


PEOPLE = frozenset({Persona.USER, Persona.ADMIN, Persona.SUPERADMIN, Persona.OTHER_USER, Persona.OTHER_ADMIN})
KEYS = {
    Persona.CHAT_KEY: Scope.CHAT,
    Persona.SEARCH_KEY: Scope.SEARCH,
    Persona.INGEST_KEY: Scope.INGEST,
    Persona.READ_KEY: Scope.READ,
    Persona.MANAGE_KEY: Scope.MANAGE,
}
NOBODY = frozenset(
    {
        Persona.ANONYMOUS,
        Persona.REVOKED_KEY,
        Persona.EXPIRED_KEY,
        Persona.DEACTIVATED,
        Persona.REFRESH_TOKEN,
    }
)
MANAGERS = frozenset({Persona.ADMIN, Persona.SUPERADMIN, Persona.OTHER_ADMIN, Persona.MANAGE_KEY})
CHATTERS = PEOPLE | {Persona.CHAT_KEY}
SEARCHERS = PEOPLE | {Persona.SEARCH_KEY}
INGESTERS = PEOPLE | {Persona.INGEST_KEY}
CHANGERS = INGESTERS - {Persona.USER}
"""Of what an admin has put into an open collection: its users read it and add to it, and change what they added."""

READERS = PEOPLE | {Persona.READ_KEY}
EVERYBODY = frozenset(Persona)
HOME = frozenset(Persona) - {Persona.OTHER_USER, Persona.OTHER_ADMIN}


@dataclass(frozen=True)
class Cast:
    """The organization that everything belongs to, and the people and keys that come."""

    service: Service
    organization_id: str
    people: Mapping[Persona, Person]
    credentials: Mapping[Persona, str | None]

    @property
    def principal(self) -> Principal:
        """The operator of the home organization, who makes objects."""
        return Principal(PrincipalKind.OPERATOR, "op", self.organization_id, Role.ADMIN, ALL_SCOPES)


Files = Callable[[], dict[str, tuple[str, bytes]]]
Make = Callable[[Cast], Awaitable[dict[str, str]]]
Body = Callable[[Cast, Persona], dict[str, Any] | None]


def _no_body(_: Cast, __: Persona) -> dict[str, Any] | None:
    return None


@dataclass(frozen=True)
class Row:
    """One route. `allowed` get `status`; who has the right in general but not to this object gets 404; others 403.

    `make` makes a fresh object for each caller and gives the parameters of the path. `before_totp` is what
    somebody gets who has yet to enrol, where that is not 403; `public` that nobody is asked who they are.
    """

    method: str
    path: str
    allowed: frozenset[Persona]
    general: frozenset[Persona] = frozenset()
    status: int = 200
    body: Body = _no_body
    make: Make | None = None
    files: Files | None = None
    before_totp: int | None = None
    public: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path


def fixed(**values: Any) -> Body:
    return lambda _, __: dict(values)


def _fresh_email(_: Cast, __: Persona) -> dict[str, Any]:
    return {"email": f"fresh{next(_numbers)}.{security.new_token()[:8].lower()}@example.com"}


def _signup(cast: Cast, persona: Persona) -> dict[str, Any]:
    return {**_fresh_email(cast, persona), "password": PASSWORD}


def _login(cast: Cast, _: Persona) -> dict[str, Any]:
    return {"username": cast.people[Persona.BEFORE_TOTP].email, "password": PASSWORD}


async def _asset(_: Cast) -> dict[str, str]:
    return {"asset": "swagger-ui.css"}


async def document(cast: Cast) -> dict[str, str]:
    async with cast.service.runtime.database.unit_of_work(cast.principal) as session:
        document_id = ids.new(ids.Prefix.DOCUMENT)
        values = {
            "id": document_id,
            "collection_id": await PlaceRepository(session, cast.principal).default_id(),
            "title": "T",
            "content_type": "text/plain",
            "size_bytes": 1,
            "sha256": document_id,
        }
        await DocumentRepository(session, cast.principal).add_completed(values, ["page"])
    return {"document_id": document_id}


def a_file() -> dict[str, tuple[str, bytes]]:
    """Another one for each caller, of whom some share an organization."""
    return {"file": ("note.txt", f"Note number {next(_numbers)} {security.new_token()}".encode())}


async def uploaded(cast: Cast) -> dict[str, str]:
    """A document with its file."""
    runtime = cast.service.runtime
    content, key = b"The original.", ids.new_storage_key()
    file = runtime.spool.create()
    file.write(content)
    await runtime.originals.put(file.path, key)
    file.discard()
    made = await document(cast)
    async with runtime.database.unit_of_work(cast.principal) as session:
        values = {"storage_key": key, "storage_sha256": file.sha256, "size_bytes": len(content)}
        await VersionRepository(session, cast.principal).settle(made["document_id"], values)
    return made


async def queued(cast: Cast) -> dict[str, str]:
    """A document that waits to be processed, later than any test takes."""
    made = await document(cast)
    async with cast.service.runtime.database.unit_of_work(cast.principal) as session:
        await queue.enqueue(
            session,
            document_id=made["document_id"],
            organization_id=cast.organization_id,
            generation=1,
            pause=timedelta(hours=1),
        )
    return made


async def collection(cast: Cast) -> dict[str, str]:
    """One that is open to the organization, with a user on its list."""
    listed = await new_person(cast.service, organization_id=cast.organization_id)
    async with cast.service.runtime.database.unit_of_work(cast.principal) as session:
        made = await CollectionRepository(session, cast.principal).add("C")
        await AccessListRepository(session, cast.principal).grant(made.id, {listed.id: Permission.READ})
    return {"collection_id": made.id, "user_id": listed.id}


async def conversation(cast: Cast) -> dict[str, str]:
    owner = cast.people[Persona.USER]
    principal = Principal(PrincipalKind.USER, owner.id, owner.organization_id, Role.USER, ALL_SCOPES)
    session_id = ids.new(ids.Prefix.SESSION)
    async with cast.service.runtime.database.unit_of_work(principal) as session:
        turn = NewTurn(
            session_id, "T", ids.new(ids.Prefix.MESSAGE), "Q", ids.new(ids.Prefix.MESSAGE), "extractive"
        )
        assert await TurnRepository(session, principal).open_turn(turn, history=0) == []
    return {"session_id": session_id}


async def answered(cast: Cast) -> dict[str, str]:
    """The answer of a conversation."""
    return {"message_id": (await _exchange(cast))[1]}


async def asked(cast: Cast) -> dict[str, str]:
    """The question of a conversation that is answered."""
    return {"message_id": (await _exchange(cast))[0]}


async def _exchange(cast: Cast) -> tuple[str, str]:
    owner = cast.people[Persona.USER]
    principal = Principal(PrincipalKind.USER, owner.id, owner.organization_id, Role.USER, ALL_SCOPES)
    question_id, answer_id = ids.new(ids.Prefix.MESSAGE), ids.new(ids.Prefix.MESSAGE)
    values = {
        "content": "A",
        "status": "complete",
        "sources": [],
        "usage": {},
        "model": "extractive",
        "refused": False,
        "finish_reason": "stop",
        "latency_ms": 1,
    }
    async with cast.service.runtime.database.unit_of_work(principal) as session:
        turns = TurnRepository(session, principal)
        turn = NewTurn(ids.new(ids.Prefix.SESSION), "T", question_id, "Q", answer_id, "extractive")
        await turns.open_turn(turn, history=0)
        await turns.finish_answer(answer_id, values)
    return question_id, answer_id


async def user(cast: Cast) -> dict[str, str]:
    return {"user_id": (await new_person(cast.service, organization_id=cast.organization_id)).id}


async def invitation(cast: Cast) -> dict[str, str]:
    async with cast.service.runtime.database.unit_of_work(SYSTEM) as session:
        made = await OneTimeRepository(session, cast.principal).add_invitation(
            email="invited@example.com",
            role=Role.USER,
            token_hash=security.token_hash(security.new_token()),
            expires_at=clock.now(),
        )
    return {"invitation_id": made.id}


async def api_key(cast: Cast) -> dict[str, str]:
    key = security.new_api_key()
    async with cast.service.runtime.database.unit_of_work(SYSTEM) as session:
        made = await ApiKeyRepository(session, cast.principal).add(
            name="K",
            public_part=key.public,
            secret_hash=key.secret_hash,
            scopes=ALL_SCOPES,
            collection_ids=None,
            expires_at=None,
            created_by=None,
        )
    return {"key_id": made.id}


async def home(cast: Cast) -> dict[str, str]:
    return {"organization_id": cast.organization_id}


async def third_organization(cast: Cast) -> dict[str, str]:
    return {"organization_id": await new_organization(cast.service)}


_SUPERADMINS = frozenset({Persona.SUPERADMIN})
_ITS_OWNER = frozenset({Persona.USER})

ROWS: tuple[Row, ...] = (
    Row("GET", "/health", EVERYBODY, public=True),
    Row("GET", "/health/ready", EVERYBODY, public=True),
    Row("GET", "/openapi.json", EVERYBODY, public=True),
    Row("GET", "/docs", EVERYBODY, public=True),
    Row("GET", "/docs/{asset}", EVERYBODY, make=_asset, public=True),
    Row("GET", "/set-password", EVERYBODY, public=True),
    Row("GET", "/set-password/script.js", EVERYBODY, public=True),
    Row("GET", "/join", EVERYBODY, public=True),
    Row("GET", "/join/script.js", EVERYBODY, public=True),
    Row("POST", "/ingest", INGESTERS, body=fixed(text="The office opens at nine.")),
    Row("POST", "/search", SEARCHERS, body=fixed(query="When does the office open?")),
    Row("POST", "/chat", CHATTERS, body=fixed(message="When does the office open?")),
    Row(
        "GET", "/chat/sessions/{session_id}/messages", frozenset({Persona.USER}), CHATTERS, make=conversation
    ),
    Row("POST", "/chat/messages/{message_id}/stop", _ITS_OWNER, CHATTERS, make=answered),
    Row("POST", "/chat/messages/{message_id}/select", _ITS_OWNER, CHATTERS, make=answered),
    Row("GET", "/chat/messages/{message_id}/events", _ITS_OWNER, CHATTERS, make=answered),
    Row(
        "POST",
        "/chat/messages/{message_id}/regenerate",
        _ITS_OWNER,
        CHATTERS,
        body=fixed(),
        make=answered,
    ),
    Row(
        "POST",
        "/chat/messages/{message_id}/edit",
        _ITS_OWNER,
        CHATTERS,
        body=fixed(message="When does the office open?"),
        make=asked,
    ),
    Row("POST", "/chat/ws/ticket", CHATTERS, status=201),
    Row("GET", "/documents", READERS),
    Row("GET", "/documents/{document_id}", READERS & HOME, READERS, make=document),
    Row("GET", "/documents/{document_id}/chunks", READERS & HOME, READERS, make=document),
    Row("PATCH", "/documents/{document_id}", CHANGERS & HOME, CHANGERS, body=fixed(title="N"), make=document),
    Row("DELETE", "/documents/{document_id}", CHANGERS & HOME, CHANGERS, status=204, make=document),
    Row("POST", "/documents", INGESTERS, status=202, files=a_file),
    Row("GET", "/documents/{document_id}/text", READERS & HOME, READERS, make=document),
    Row("GET", "/documents/{document_id}/events", READERS & HOME, READERS, make=document),
    Row("GET", "/documents/{document_id}/content", READERS & HOME, READERS, make=uploaded),
    Row("POST", "/documents/{document_id}/reprocess", CHANGERS & HOME, CHANGERS, status=202, make=document),
    Row("POST", "/documents/{document_id}/cancel", CHANGERS & HOME, CHANGERS, make=queued),
    Row("GET", "/metrics", MANAGERS),
    Row("GET", "/admin/index/health", MANAGERS),
    Row("POST", "/admin/index/repair", MANAGERS, status=202),
    Row("GET", "/collections", READERS),
    Row("POST", "/collections", MANAGERS, status=201, body=fixed(name="N")),
    Row("GET", "/collections/{collection_id}", READERS & HOME, READERS, make=collection),
    Row(
        "PATCH",
        "/collections/{collection_id}",
        MANAGERS & HOME,
        MANAGERS,
        body=fixed(name="N"),
        make=collection,
    ),
    Row("DELETE", "/collections/{collection_id}", MANAGERS & HOME, MANAGERS, status=204, make=collection),
    Row("GET", "/collections/{collection_id}/users", MANAGERS & HOME, MANAGERS, make=collection),
    Row(
        "PUT",
        "/collections/{collection_id}/users",
        MANAGERS & HOME,
        MANAGERS,
        status=204,
        body=fixed(users=[]),
        make=collection,
    ),
    Row(
        "PUT",
        "/collections/{collection_id}/users/{user_id}",
        MANAGERS & HOME,
        MANAGERS,
        status=204,
        body=fixed(permission="write"),
        make=collection,
    ),
    Row(
        "DELETE",
        "/collections/{collection_id}/users/{user_id}",
        MANAGERS & HOME,
        MANAGERS,
        status=204,
        make=collection,
    ),
    Row("POST", "/auth/signup", EVERYBODY, status=201, body=_signup, public=True),
    Row("POST", "/auth/login", EVERYBODY, body=_login, public=True),
    Row("POST", "/auth/refresh", EVERYBODY, status=401, body=fixed(refresh_token="wrong"), public=True),
    Row(
        "POST",
        "/auth/password-reset",
        EVERYBODY,
        status=422,
        body=fixed(token="wrong", new_password=PASSWORD),
        public=True,
    ),
    Row("POST", "/auth/logout", PEOPLE, status=204, before_totp=204),
    Row("GET", "/auth/me", PEOPLE, before_totp=200),
    Row("PATCH", "/auth/me", PEOPLE, body=fixed(name="N")),
    Row(
        "POST",
        "/auth/password",
        PEOPLE,
        status=204,
        body=fixed(current_password=PASSWORD, new_password=PASSWORD + "!"),
    ),
    Row("POST", "/auth/totp/enrol", PEOPLE, status=409, before_totp=200),
    Row("POST", "/auth/totp/verify", PEOPLE, status=409, body=fixed(code="000000"), before_totp=409),
    Row("POST", "/auth/totp/recovery-codes", PEOPLE, status=403, body=fixed(code="wrong")),
    Row("POST", "/auth/totp/disable", PEOPLE, status=403, body=fixed(password="wrong", code="wrong")),
    Row("GET", "/users", MANAGERS),
    Row("POST", "/users", MANAGERS, status=201, body=_fresh_email),
    Row("GET", "/users/invitations", MANAGERS),
    Row("POST", "/users/invitations", MANAGERS, status=201, body=_fresh_email),
    Row(
        "DELETE",
        "/users/invitations/{invitation_id}",
        MANAGERS & HOME,
        MANAGERS,
        status=204,
        make=invitation,
    ),
    Row("GET", "/users/{user_id}", MANAGERS & HOME, MANAGERS, make=user),
    Row("PATCH", "/users/{user_id}", MANAGERS & HOME, MANAGERS, body=fixed(is_active=False), make=user),
    Row("DELETE", "/users/{user_id}", MANAGERS & HOME, MANAGERS, status=204, make=user),
    Row("POST", "/users/{user_id}/password-reset", MANAGERS & HOME, MANAGERS, status=201, make=user),
    Row("DELETE", "/users/{user_id}/totp", MANAGERS & HOME, MANAGERS, status=204, make=user),
    Row("GET", "/organizations", MANAGERS),
    Row("POST", "/organizations", _SUPERADMINS, status=201, body=fixed(name="New")),
    Row("GET", "/organizations/{organization_id}", MANAGERS & HOME, MANAGERS, make=home),
    Row(
        "PATCH",
        "/organizations/{organization_id}",
        MANAGERS & HOME,
        MANAGERS,
        body=fixed(name="N"),
        make=home,
    ),
    Row(
        "DELETE",
        "/organizations/{organization_id}",
        _SUPERADMINS,
        MANAGERS,
        status=204,
        make=third_organization,
    ),
    Row("GET", "/api-keys", MANAGERS),
    Row("POST", "/api-keys", MANAGERS, status=201, body=fixed(name="K", scopes=["manage"])),
    Row("GET", "/api-keys/{key_id}", MANAGERS & HOME, MANAGERS, make=api_key),
    Row("DELETE", "/api-keys/{key_id}", MANAGERS & HOME, MANAGERS, status=204, make=api_key),
    Row("GET", "/audit", MANAGERS),
    Row("GET", "/audit/export", MANAGERS),
)


@dataclass(frozen=True)
class SocketRow:
    """One message over the WebSocket connection at a path. `allowed` get a message of the type `answered`; who has the
    right in general but not to this object gets `not_found`; others on the connection `missing_scope`.

    `connected` are who may open the connection at all.
    """

    path: str
    message: Callable[[dict[str, str]], dict[str, Any]]
    answered: str
    connected: frozenset[Persona]
    allowed: frozenset[Persona]
    general: frozenset[Persona] = frozenset()
    not_found: str = ""
    make: Make | None = None


CONNECTED = CHATTERS | READERS
SOCKET_ROWS: tuple[SocketRow, ...] = (
    SocketRow("/chat/ws", lambda _: {"type": "ping"}, "pong", CONNECTED, CONNECTED),
    SocketRow(
        "/chat/ws",
        lambda _: {"type": "user_message", "message": "When does the office open?"},
        "stream_start",
        CONNECTED,
        CHATTERS,
    ),
    SocketRow(
        "/chat/ws",
        lambda made: {"type": "regenerate", **made},
        "stream_start",
        CONNECTED,
        _ITS_OWNER,
        CHATTERS,
        "message_not_found",
        answered,
    ),
    SocketRow(
        "/chat/ws",
        lambda made: {"type": "user_message", "message": "Other?", "edit_of": made["message_id"]},
        "stream_start",
        CONNECTED,
        _ITS_OWNER,
        CHATTERS,
        "message_not_found",
        asked,
    ),
    SocketRow(
        "/chat/ws",
        lambda made: {"type": "resume", **made},
        "stream_start",
        CONNECTED,
        _ITS_OWNER,
        CHATTERS,
        "answer_not_found",
        answered,
    ),
    SocketRow(
        "/chat/ws",
        lambda made: {"type": "stop", **made},
        "message_saved",
        CONNECTED,
        _ITS_OWNER,
        CHATTERS,
        "answer_not_found",
        answered,
    ),
    SocketRow(
        "/chat/ws",
        lambda made: {"type": "follow_document", **made},
        "document_progress",
        CONNECTED,
        READERS & HOME,
        READERS,
        "document_not_found",
        document,
    ),
)
