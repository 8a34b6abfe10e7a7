"""The tables: which columns are shown, and the few that may be changed.

What is hidden is not read from the database either. A table whose key is a hash is shown under the number of its row.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import new_class
from typing import Any, Final

from sqladmin import ModelView
from sqlalchemy import Select, Text, cast, literal_column, select
from sqlalchemy import inspect as describe
from sqlalchemy.orm import load_only, registry
from starlette.exceptions import HTTPException
from starlette.requests import Request
from wtforms.validators import InputRequired, Length, ValidationError

from app.core.text import clean
from app.db import tables
from app.db.models import (
    ApiKey,
    AuditEntry,
    Base,
    Bot,
    BotCollection,
    BotUser,
    BotVersion,
    Budget,
    BudgetReservation,
    BudgetSpending,
    Chunk,
    Collection,
    CollectionUser,
    Document,
    EvaluationRun,
    EvaluationSet,
    FileDeletion,
    Guesses,
    IdempotencyKey,
    IndexRebuild,
    IndexState,
    Invitation,
    Job,
    JobTurn,
    Login,
    Message,
    Organization,
    Page,
    PasswordReset,
    RebuildClaim,
    RecoveryCode,
    RefreshToken,
    Session,
    SessionShare,
    SocketTicket,
    StoredFile,
    TermCount,
    TermStatistic,
    UsageEvent,
    User,
    WorkerSign,
)

_SHOWN_CHARACTERS: Final = 200
_PAGE_SIZES: Final = (25, 50, 100)


@dataclass(frozen=True)
class Table:
    """`hidden` are attributes that nobody sees, `editable` the longest value of each that may be changed."""

    model: type[Base]
    name: str
    icon: str
    hidden: frozenset[str] = frozenset()
    searched: tuple[str, ...] = ()
    editable: Mapping[str, int] = field(default_factory=dict)
    sort: str = "created_at"


def _hidden(*names: str) -> frozenset[str]:
    return frozenset(names)


TABLES: Final = (
    Table(Organization, "Organization", "building", searched=("id", "name"), editable={"name": 200}),
    Table(
        User,
        "User",
        "user",
        _hidden("password_hash", "totp_secret", "totp_last_step"),
        searched=("id", "email", "name"),
        editable={"name": 200},
    ),
    Table(Login, "Login", "right-to-bracket", searched=("user_id", "address")),
    Table(RefreshToken, "Refresh token", "arrows-rotate", _hidden("token_hash")),
    Table(RecoveryCode, "Recovery code", "life-ring", _hidden("code_hash"), sort="user_id"),
    Table(Invitation, "Invitation", "envelope", _hidden("token_hash"), searched=("email",)),
    Table(PasswordReset, "Password reset", "unlock", _hidden("token_hash")),
    Table(Guesses, "Counted guess", "ban", _hidden("subject"), sort="moments"),
    Table(
        ApiKey, "API key", "key", _hidden("secret_hash"), searched=("id", "name", "public_part"),
        editable={"name": 200},
    ),
    Table(
        Collection, "Collection", "folder", searched=("id", "name"), editable={"name": 200, "description": 2000}
    ),
    Table(CollectionUser, "Access", "user-lock", searched=("collection_id", "user_id")),
    Table(Bot, "Bot", "robot", searched=("id", "name")),
    Table(BotVersion, "Bot version", "code-branch", _hidden("secrets"), searched=("id", "bot_id")),
    Table(BotCollection, "Bot's collection", "folder-tree", searched=("bot_id", "collection_id")),
    Table(BotUser, "Bot's user", "user-gear", searched=("bot_id", "user_id")),
    Table(Document, "Document", "file-lines", searched=("id", "title", "source"), editable={"title": 500}),
    Table(Page, "Page", "file", searched=("document_id",), sort="document_id"),
    Table(Chunk, "Chunk", "puzzle-piece", _hidden("embedding", "terms", "weights"), searched=("document_id",), sort="id"),
    Table(
        EvaluationSet, "Evaluation set", "list-ol", _hidden("questions"), searched=("id", "name")
    ),
    Table(EvaluationRun, "Evaluation", "chart-line", _hidden("result"), searched=("id", "set_id")),
    Table(Session, "Session", "comments", searched=("id", "owner_id")),
    Table(Message, "Message", "comment", searched=("id", "session_id")),
    Table(SessionShare, "Shared session", "share-nodes", _hidden("token_hash", "messages"), searched=("session_id",)),
    Table(UsageEvent, "Model call", "receipt", searched=("caller_id", "bot_id", "model")),
    Table(Budget, "Budget", "coins", searched=("id", "subject_id")),
    Table(BudgetSpending, "Budget's spending", "money-bill", searched=("budget_id",), sort="period_start"),
    Table(BudgetReservation, "Budget's reservation", "hourglass", searched=("budget_id",), sort="expires_at"),
    Table(SocketTicket, "Ticket", "ticket", _hidden("token_hash", "credential_encrypted"), sort="expires_at"),
    Table(AuditEntry, "Audit entry", "clipboard-list", searched=("action", "actor_name", "object_id"), sort="occurred_at"),
    Table(Job, "Job", "list-check", searched=("document_id", "organization_id")),
    Table(JobTurn, "Turn", "arrows-turn-to-dots", sort="served_at"),
    Table(FileDeletion, "File to remove", "trash", sort="due_at"),
    Table(IdempotencyKey, "Repeatable request", "rotate", _hidden("key", "fingerprint", "body"), sort="expires_at"),
    Table(StoredFile, "Stored file", "box", _hidden("content"), searched=("storage_key",), sort="storage_key"),
    Table(WorkerSign, "Worker", "person-digging", sort="seen_at"),
    Table(IndexState, "Index state", "gauge"),
    Table(IndexRebuild, "Rebuild", "hammer", searched=("id",)),
    Table(RebuildClaim, "Rebuild's document", "file-pen", searched=("document_id",), sort="available_at"),
    Table(TermStatistic, "Term", "font", searched=("organization_id",), sort="share"),
    Table(TermCount, "Term count", "calculator", sort="organization_id"),
)  # fmt: skip


class TableView(ModelView):
    """Read-only, but for the columns in `editable`."""

    can_create = False
    can_delete = False
    can_export = False
    can_import = False
    can_edit = False
    page_size = _PAGE_SIZES[0]
    page_size_options = _PAGE_SIZES
    table: Table

    def list_query(self, request: Request) -> Select[Any]:
        return self._shown(select(self.model))

    def form_details_query(self, request: Request) -> Select[Any]:
        return self._shown(super().form_details_query(request))

    def form_edit_query(self, request: Request) -> Select[Any]:
        return self._shown(super().form_edit_query(request))

    async def update_model(self, request: Request, pk: str, data: dict[str, Any]) -> Any:
        with tables.writing():
            return await super().update_model(request, pk, data)

    async def on_model_change(
        self, data: dict[str, Any], model: Any, is_created: bool, request: Request
    ) -> None:
        for name in self.table.editable:
            data[name] = clean(data[name] or "")
        if isinstance(model, Document) and data["title"] != model.title:
            model.terms_stale_from = 0  # its words are found by the new title soon

    def _stmt_by_identifier(self, identifier: str) -> Select[Any]:
        try:
            return super()._stmt_by_identifier(identifier)
        except (ValueError, TypeError, OverflowError) as error:  # nothing can have this key
            raise HTTPException(HTTPStatus.NOT_FOUND) from error

    def _shown(self, query: Select[Any]) -> Select[Any]:
        if not issubclass(self.model, Base):
            return query
        return query.options(
            load_only(*(getattr(self.model, name) for name in self._details_prop_names), raiseload=True)
        )


def view_of(table: Table) -> type[TableView]:
    """The view of a table."""
    keys = {column.name for column in table.model.__table__.primary_key}
    model: type = _without_key(table) if keys & table.hidden else table.model
    attributes: Iterable[Any] = describe(model).column_attrs
    shown = [attribute.key for attribute in attributes if attribute.key not in table.hidden]
    body: dict[str, Any] = {
        "table": table,
        "name": table.name,
        "name_plural": _plural(table.name),
        "icon": f"fa-solid fa-{table.icon}",
        "column_list": shown,
        "column_details_list": shown,
        "column_sortable_list": shown,
        "column_searchable_list": list(table.searched),
        "column_default_sort": (table.sort, True),
        "column_formatters": dict.fromkeys(shown, _clipped),
        "can_edit": bool(table.editable),
        "form_columns": list(table.editable) or shown,
        "form_args": {
            name: {"validators": _validators(name, longest)} for name, longest in table.editable.items()
        },
    }
    name = f"{table.model.__name__}View"
    view: type[TableView] = new_class(
        name, (TableView,), {"model": model}, lambda namespace: namespace.update(body)
    )
    view.identity = table.model.__tablename__
    return view


def _without_key(table: Table) -> type:
    """A class for the same rows without their secret key, which no address and no page then can have in it."""
    visible = [
        attribute.columns[0]
        for attribute in describe(table.model).column_attrs
        if attribute.key not in table.hidden
    ]
    row = cast(literal_column(f"{table.model.__tablename__}.ctid"), Text).label("row")
    rows = select(row, *visible).subquery(table.model.__tablename__)
    mapped = type(table.model.__name__, (), {})
    registry().map_imperatively(mapped, rows, primary_key=[rows.c.row])
    return mapped


def _clipped(row: Any, name: str) -> str:
    value = getattr(row, name)
    shown = "" if value is None else str(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}…"


def _validators(name: str, longest: int) -> list[Any]:
    if name == "description":
        return [Length(max=longest)]
    return [InputRequired(), Length(max=longest), _not_blank]


def _not_blank(_: object, entry: Any) -> None:
    if not clean(entry.data or "").strip():
        raise ValidationError("must not be blank")


def _plural(name: str) -> str:
    return {"Access": "Access lists", "Audit entry": "Audit log", "Index state": "Index state"}.get(
        name, f"{name}s"
    )
