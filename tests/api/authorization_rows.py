"""Who may call which route. A new route needs a row here: `ROWS` is compared with the routes of the application."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import count
from typing import Any

from sqlalchemy import text

from app.core import bot_settings, clock, ids, security
from app.core.access import Permission
from app.core.bots import BotSettings, ModelSettings, Provider
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role, Scope
from app.core.usage import BudgetPeriod, BudgetSubject, NewBudget
from app.db import queue
from app.db.models import RebuildState
from app.db.repositories.api_keys import ApiKeyRepository
from app.db.repositories.bots import BotListRepository, BotRepository, BotVersionRepository
from app.db.repositories.budgets import BudgetRepository
from app.db.repositories.collections import AccessListRepository, CollectionRepository
from app.db.repositories.conversations import ConversationRepository
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.evaluations import EvaluationRepository
from app.db.repositories.one_time import OneTimeRepository
from app.db.repositories.places import PlaceRepository
from app.db.repositories.rebuilds import RebuildRepository
from app.db.repositories.turns import NewTurn, TurnRepository
from app.db.repositories.versions import VersionRepository
from app.services import shares
from tests.fixtures.accounts import PASSWORD, Person, new_organization, new_person
from tests.fixtures.service import Service

_numbers = count(1)
FINISHED: Mapping[str, Any] = {
    "content": "",
    "status": "complete",
    "sources": [],
    "usage": {},
    "model": "extractive",
    "refused": False,
    "finish_reason": "stop",
    "latency_ms": 1,
}


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
BOT_READERS = PEOPLE | {Persona.CHAT_KEY, Persona.READ_KEY, Persona.MANAGE_KEY}
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


async def _default_model(_: Cast) -> dict[str, str]:
    return {"model_id": "ibid"}


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


async def first_page(cast: Cast) -> dict[str, str]:
    return {**await document(cast), "number": "1"}


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


async def rebuild(cast: Cast) -> dict[str, str]:
    """One of the organization's that nobody goes on with by itself."""
    async with cast.service.runtime.database.unit_of_work(SYSTEM) as session:
        await session.execute(
            text("DELETE FROM index_rebuilds WHERE organization_id = :id"), {"id": cast.organization_id}
        )
        repository = RebuildRepository(session)
        made = await repository.add(
            {
                "id": ids.new(ids.Prefix.REBUILD),
                "organization_id": cast.organization_id,
                "embedding_model": "model@1/1/f32/1/none",
                "dimension": 1,
            }
        )
        assert made is not None
        await repository.change(made.id, [RebuildState.RUNNING], {"state": RebuildState.FAILED})
    return {}


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


async def bot(cast: Cast, provider: Provider = Provider.EXTRACTIVE, **model: Any) -> dict[str, str]:
    """One that is open to the organization, with a user on its list and one version."""
    listed = await new_person(cast.service, organization_id=cast.organization_id)
    settings = BotSettings(ModelSettings(provider, **({"model": "extractive"} | model)))
    async with cast.service.runtime.database.unit_of_work(cast.principal) as session:
        name = f"Bot {next(_numbers)}"
        made = await BotRepository(session, cast.principal).add({"name": name})
        await BotVersionRepository(session, cast.principal).add(
            made.id, 1, settings=bot_settings.to_json(settings), secrets={}, note=""
        )
        await BotListRepository(session, cast.principal).add_users(made.id, [listed.id])
    return {"bot_id": made.id, "user_id": listed.id, "number": "1"}


async def bot_with_model(cast: Cast) -> dict[str, str]:
    """Its model can't be reached: nobody may go to the address."""
    return await bot(
        cast, Provider.OPENAI_COMPATIBLE, model="m", base_url="http://127.0.0.1:9/v1", anywhere=False
    )


async def changed_bot(cast: Cast) -> dict[str, str]:
    """One with a second version, which answers."""
    made = await bot(cast)
    settings = BotSettings(ModelSettings(Provider.EXTRACTIVE, "extractive"), persona="Changed.")
    async with cast.service.runtime.database.unit_of_work(cast.principal) as session:
        await BotVersionRepository(session, cast.principal).add(
            made["bot_id"], 2, settings=bot_settings.to_json(settings), secrets={}, note=""
        )
        await BotRepository(session, cast.principal).change(made["bot_id"], {"version": 2})
    return made


async def bot_without_user(cast: Cast) -> dict[str, str]:
    made = await bot(cast)
    return {**made, "user_id": (await new_person(cast.service, organization_id=cast.organization_id)).id}


def _new_bot(_: Cast, __: Persona) -> dict[str, Any]:
    return {"name": f"Bot {next(_numbers)}", "provider": "extractive"}


async def evaluation(cast: Cast) -> dict[str, str]:
    """One that no worker takes, with its question set."""
    async with cast.service.runtime.database.unit_of_work(cast.principal) as session:
        repository = EvaluationRepository(session, cast.principal)
        made = await repository.add_set(f"Set {next(_numbers)}", [])
        run = await repository.add(
            {
                "set_id": made.id,
                "name": made.name,
                "bot_id": "default",
                "available_at": clock.now() + timedelta(days=1),
            }
        )
    return {"evaluation_id": run.id, "set_id": made.id}


def _evaluation(_: Cast, __: Persona) -> dict[str, Any]:
    question = {"question": "When does the office open?", "answers": ["nine"]}
    return {"name": f"Questions {next(_numbers)}", "questions": [question]}


async def conversation(cast: Cast) -> dict[str, str]:
    owner = cast.people[Persona.USER]
    principal = Principal(PrincipalKind.USER, owner.id, owner.organization_id, Role.USER, ALL_SCOPES)
    session_id = ids.new(ids.Prefix.SESSION)
    async with cast.service.runtime.database.unit_of_work(principal) as session:
        turn = NewTurn(
            session_id, "T", ids.new(ids.Prefix.MESSAGE), "Q", ids.new(ids.Prefix.MESSAGE), "extractive"
        )
        assert await TurnRepository(session, principal).open_turn(turn, history=0) is not None
    return {"session_id": session_id}


async def answered(cast: Cast) -> dict[str, str]:
    """A conversation whose answer is there."""
    made = await conversation(cast)
    owner = cast.people[Persona.USER]
    principal = Principal(PrincipalKind.USER, owner.id, owner.organization_id, Role.USER, ALL_SCOPES)
    async with cast.service.runtime.database.unit_of_work(principal) as session:
        question, answer = await ConversationRepository(session, principal).messages(
            made["session_id"], limit=2, offset=0
        )
        await TurnRepository(session, principal).finish_answer(answer.id, {**FINISHED, "content": "Nine."})
    return {**made, "message_id": answer.id, "question_id": question.id}


async def shared(cast: Cast) -> dict[str, str]:
    """A link to a conversation."""
    made = await answered(cast)
    owner = cast.people[Persona.USER]
    principal = Principal(PrincipalKind.USER, owner.id, owner.organization_id, Role.USER, ALL_SCOPES)
    runtime = cast.service.runtime
    async with runtime.database.unit_of_work(principal) as session:
        share = await shares.create(runtime, session, principal, made["session_id"], None)
    return {**made, "share_id": share.share.id, "token": share.token}


async def asked(cast: Cast) -> dict[str, str]:
    """The question of a conversation that is answered."""
    made = await answered(cast)
    return {**made, "message_id": made["question_id"]}


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


async def budget(cast: Cast) -> dict[str, str]:
    """One of a user of their own, so that each caller's is another."""
    subject = await user(cast)
    wanted = NewBudget(BudgetSubject.USER, subject["user_id"], BudgetPeriod.DAY, 1000, None)
    async with cast.service.runtime.database.unit_of_work(cast.principal) as session:
        made = await BudgetRepository(session, cast.principal).add(wanted)
    return {"budget_id": made.id}


def _new_budget(cast: Cast, persona: Persona) -> dict[str, Any]:
    """Each caller's for something else, of whom some share an organization."""
    subjects = dict(zip(sorted(MANAGERS), BudgetSubject, strict=True))
    return {"subject": subjects.get(persona, "user"), "period": "day", "max_tokens": 10**9}


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
    Row("GET", "/chat/sessions", CHATTERS),
    Row("GET", "/chat/sessions/{session_id}", _ITS_OWNER, CHATTERS, make=conversation),
    Row(
        "PATCH",
        "/chat/sessions/{session_id}",
        _ITS_OWNER,
        CHATTERS,
        body=fixed(title="N", pinned=True),
        make=conversation,
    ),
    Row("DELETE", "/chat/sessions/{session_id}", _ITS_OWNER, CHATTERS, status=204, make=conversation),
    Row("GET", "/chat/sessions/{session_id}/messages", _ITS_OWNER, CHATTERS, make=conversation),
    Row("GET", "/chat/sessions/{session_id}/export", _ITS_OWNER, CHATTERS, make=answered),
    Row(
        "PUT",
        "/chat/messages/{message_id}/feedback",
        _ITS_OWNER,
        CHATTERS,
        body=fixed(rating="down", comment="It opens at ten."),
        make=answered,
    ),
    Row("DELETE", "/chat/messages/{message_id}/feedback", _ITS_OWNER, CHATTERS, status=204, make=answered),
    Row(
        "POST",
        "/chat/sessions/{session_id}/shares",
        _ITS_OWNER,
        CHATTERS,
        status=201,
        body=fixed(expires_at="2100-01-01T00:00:00Z"),
        make=answered,
    ),
    Row("GET", "/chat/sessions/{session_id}/shares", _ITS_OWNER, CHATTERS, make=shared),
    Row("DELETE", "/chat/sessions/{session_id}/shares", _ITS_OWNER, CHATTERS, status=204, make=shared),
    Row(
        "DELETE",
        "/chat/sessions/{session_id}/shares/{share_id}",
        _ITS_OWNER,
        CHATTERS,
        status=204,
        make=shared,
    ),
    Row("POST", "/chat/upload", CHATTERS, status=202, files=a_file),
    Row("GET", "/shared/{token}", EVERYBODY, make=shared, public=True),
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
    # Of a text, which has no pages to show.
    Row(
        "GET",
        "/documents/{document_id}/pages/{number}.webp",
        READERS & HOME,
        READERS,
        status=409,
        make=first_page,
    ),
    Row("GET", "/documents/{document_id}/content", READERS & HOME, READERS, make=uploaded),
    Row("POST", "/documents/{document_id}/reprocess", CHANGERS & HOME, CHANGERS, status=202, make=document),
    Row("POST", "/documents/{document_id}/cancel", CHANGERS & HOME, CHANGERS, make=queued),
    Row("GET", "/metrics", MANAGERS),
    Row("GET", "/admin/diagnostics", _SUPERADMINS),
    Row("GET", "/admin/index/health", MANAGERS),
    Row("POST", "/admin/index/repair", MANAGERS, status=202),
    Row("POST", "/admin/index/rebuild", MANAGERS, status=202, body=fixed(scope="organization")),
    Row("GET", "/admin/index/rebuild", MANAGERS & HOME, MANAGERS, make=rebuild),
    Row("DELETE", "/admin/index/rebuild", MANAGERS & HOME, MANAGERS, make=rebuild),
    Row("GET", "/admin/evaluations", MANAGERS),
    Row("POST", "/admin/evaluations", MANAGERS, status=202, body=_evaluation),
    Row("GET", "/admin/evaluations/{evaluation_id}", MANAGERS & HOME, MANAGERS, make=evaluation),
    Row(
        "GET",
        "/admin/evaluations/{evaluation_id}/report",
        MANAGERS & HOME,
        MANAGERS,
        status=409,
        make=evaluation,
    ),
    Row(
        "DELETE", "/admin/evaluations/{evaluation_id}", MANAGERS & HOME, MANAGERS, status=204, make=evaluation
    ),
    Row("GET", "/admin/evaluation-sets", MANAGERS),
    Row("DELETE", "/admin/evaluation-sets/{set_id}", MANAGERS & HOME, MANAGERS, status=204, make=evaluation),
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
    Row("GET", "/bots", BOT_READERS),
    Row("POST", "/bots", MANAGERS, status=201, body=_new_bot),
    Row(
        "POST",
        "/bots/try",
        MANAGERS,
        body=fixed(provider="openai-compatible", model="m", base_url="http://ibid-no-such-host.example"),
    ),
    Row("GET", "/bots/{bot_id}", BOT_READERS & HOME, BOT_READERS, make=bot),
    Row("PATCH", "/bots/{bot_id}", MANAGERS & HOME, MANAGERS, body=fixed(persona="Kind."), make=bot),
    Row("DELETE", "/bots/{bot_id}", MANAGERS & HOME, MANAGERS, status=204, make=bot),
    Row("POST", "/bots/{bot_id}/try", MANAGERS & HOME, MANAGERS, make=bot_with_model),
    Row("GET", "/bots/{bot_id}/versions", MANAGERS & HOME, MANAGERS, make=bot),
    Row("GET", "/bots/{bot_id}/versions/{number}", MANAGERS & HOME, MANAGERS, make=bot),
    Row("GET", "/bots/{bot_id}/versions/{number}/diff", MANAGERS & HOME, MANAGERS, make=bot),
    Row("POST", "/bots/{bot_id}/versions/{number}/restore", MANAGERS & HOME, MANAGERS, make=changed_bot),
    Row("GET", "/bots/{bot_id}/statistics", MANAGERS & HOME, MANAGERS, make=bot),
    Row("GET", "/bots/{bot_id}/users", MANAGERS & HOME, MANAGERS, make=bot),
    Row(
        "PUT",
        "/bots/{bot_id}/users",
        MANAGERS & HOME,
        MANAGERS,
        status=204,
        body=fixed(user_ids=[]),
        make=bot,
    ),
    Row(
        "PUT", "/bots/{bot_id}/users/{user_id}", MANAGERS & HOME, MANAGERS, status=204, make=bot_without_user
    ),
    Row("DELETE", "/bots/{bot_id}/users/{user_id}", MANAGERS & HOME, MANAGERS, status=204, make=bot),
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
    Row(
        "POST",
        "/v1/chat/completions",
        CHATTERS,
        body=fixed(model="ibid", messages=[{"role": "user", "content": "When does the office open?"}]),
    ),
    Row(
        "POST", "/mcp", PEOPLE | KEYS.keys(), status=202, body=fixed(jsonrpc="2.0", method="notifications/x")
    ),
    Row("GET", "/v1/models", CHATTERS),
    Row("GET", "/v1/models/{model_id}", CHATTERS, make=_default_model),
    Row(
        "POST",
        "/v1/vector_stores/{collection_id}/search",
        SEARCHERS & HOME,
        SEARCHERS,
        body=fixed(query="When does the office open?"),
        make=collection,
    ),
    Row("GET", "/usage", PEOPLE | KEYS.keys()),
    Row("GET", "/budgets", MANAGERS),
    Row("POST", "/budgets", MANAGERS, status=201, body=_new_budget),
    Row("GET", "/budgets/{budget_id}", MANAGERS & HOME, MANAGERS, make=budget),
    Row("PATCH", "/budgets/{budget_id}", MANAGERS & HOME, MANAGERS, body=fixed(max_tokens=5), make=budget),
    Row("DELETE", "/budgets/{budget_id}", MANAGERS & HOME, MANAGERS, status=204, make=budget),
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
        lambda made: {"type": "regenerate", "message_id": made["message_id"]},
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
        lambda made: {"type": "resume", "message_id": made["message_id"]},
        "stream_start",
        CONNECTED,
        _ITS_OWNER,
        CHATTERS,
        "answer_not_found",
        answered,
    ),
    SocketRow(
        "/chat/ws",
        lambda made: {"type": "stop", "message_id": made["message_id"]},
        "message_saved",
        CONNECTED,
        _ITS_OWNER,
        CHATTERS,
        "answer_not_found",
        answered,
    ),
    SocketRow(
        "/chat/ws",
        lambda made: {"type": "follow_document", "document_id": made["document_id"]},
        "document_progress",
        CONNECTED,
        READERS & HOME,
        READERS,
        "document_not_found",
        document,
    ),
)
