"""The turns of a conversation: opened with the question, finished with what became of the answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.core.errors import SessionBusy
from app.core.json_bytes import to_json
from app.core.usage import ModelCall, Payer
from app.db.engine import AnyTransaction
from app.db.repositories.base import TextRepository
from app.db.repositories.credentials import KEY_IS_LIVE
from app.db.repositories.usage import NOTE_CALLS, call_parameters

_STATE_OF_SESSION: Final = """\
opened.title_source, opened.bot_id,
       (SELECT c.id FROM collections c
         WHERE c.organization_id = :organization_id AND c.session_id = :session_id) AS files_id,
       CASE WHEN opened.summary IS NOT NULL
             AND EXISTS (SELECT FROM messages m
                          WHERE m.organization_id = :organization_id AND m.session_id = :session_id
                            AND m.position = opened.summary_through AND m.active)
            THEN opened.summary END AS summary"""
_STATE: Final = text(f"""
SELECT {_STATE_OF_SESSION} FROM sessions opened
 WHERE opened.organization_id = :organization_id AND opened.id = :session_id
""")

_OPEN_TURN: Final = text(f"""
WITH opened AS (
  INSERT INTO sessions (organization_id, id, owner_id, title, bot_id)
  SELECT :organization_id, :session_id, :owner_id, :title, CAST(:bot_id AS text)
   WHERE NOT :owner_is_unproven
      OR EXISTS (SELECT FROM api_keys WHERE organization_id = :organization_id AND id = :owner_id AND {KEY_IS_LIVE})
  ON CONFLICT (organization_id, id) DO UPDATE
    SET updated_at = now(),
        title = CASE sessions.title_source WHEN 'file' THEN excluded.title ELSE sessions.title END,
        title_source = CASE sessions.title_source WHEN 'file' THEN 'question' ELSE sessions.title_source END,
        bot_id = CASE WHEN :names_bot THEN excluded.bot_id ELSE sessions.bot_id END
    WHERE sessions.owner_id = excluded.owner_id
      AND (:names_bot OR :any_bot OR sessions.bot_id IS NULL OR sessions.bot_id = excluded.bot_id)
  RETURNING title_source, summary, summary_through, bot_id
), added AS (
  INSERT INTO messages (id, organization_id, session_id, role, content, status, model, bot_version_id)
  SELECT turn.id, :organization_id, :session_id, turn.role, turn.content, turn.status, turn.model, turn.bot_version_id
    FROM opened,
         (VALUES (1, CAST(:question_id AS text), 'user', CAST(:question AS text), 'complete', NULL, NULL),
                 (2, :answer_id, 'assistant', '', 'streaming', CAST(:model AS text),
                  CAST(:bot_version_id AS text)))
           AS turn (n, id, role, content, status, model, bot_version_id)
   ORDER BY turn.n
)
SELECT {_STATE_OF_SESSION},
       ARRAY(SELECT ROW(earlier.role, earlier.content)
               FROM (SELECT role, content, position FROM messages
                      WHERE organization_id = :organization_id AND session_id = :session_id AND active
                        AND status IN ('complete', 'stopped') AND content <> ''
                      ORDER BY position DESC LIMIT :history) AS earlier
              ORDER BY earlier.position) AS history,
       set_config('synchronous_commit', 'off', true)
  FROM opened
""")
"""One statement: the turn is stored only in a session of the caller's, and the history is the one before it.

It is on disk at the latest with the answer, and before that nobody is told that it is stored.
"""

_HAND_TO_BOT: Final = text("""
UPDATE messages SET model = :model, bot_version_id = :bot_version_id
 WHERE organization_id = :organization_id AND id = :answer_id AND status = 'streaming'
""")

_INTERRUPT_DEAD_ANSWER: Final = text("""
UPDATE messages SET status = 'interrupted', finish_reason = 'interrupted', updated_at = now()
 WHERE organization_id = :organization_id AND session_id = :session_id AND status = 'streaming' AND updated_at < :before
""")

_FINISH: Final = """
UPDATE messages SET content = :content, status = :status, sources = CAST(:sources AS jsonb),
       usage = CAST(:usage AS jsonb), model = :model, refused = :refused, finish_reason = :finish_reason,
       latency_ms = :latency_ms, error = CAST(:error AS jsonb), fallback = :fallback, degraded = :degraded,
       pending_documents = CAST(:pending_documents AS jsonb), guardrails = CAST(:guardrails AS jsonb), updated_at = now()
 WHERE organization_id = :organization_id AND id = :answer_id AND status = 'streaming'
"""
_FINISH_ANSWER: Final = text(_FINISH)
_FINISH_AND_NOTE: Final = text(f"WITH noted AS ({NOTE_CALLS}) {_FINISH}")
"""One statement: what an answer cost is in the ledger when the answer is stored, and costs it no round trip."""

_STORED: Final = text("""
SELECT m.session_id, m.content, m.status, m.sources, m.usage, m.model, m.refused, m.finish_reason, m.error, m.fallback,
       m.degraded, m.pending_documents,
       (SELECT c.id FROM collections c
         WHERE c.organization_id = m.organization_id AND c.session_id = m.session_id) AS files_id,
       (SELECT q.content FROM messages q
         WHERE q.organization_id = m.organization_id AND q.session_id = m.session_id AND q.role = 'user'
           AND q.position < m.position
         ORDER BY q.position DESC LIMIT 1) AS question
  FROM messages m JOIN sessions s ON s.organization_id = m.organization_id AND s.id = m.session_id
 WHERE m.organization_id = :organization_id AND m.id = :answer_id AND m.role = 'assistant' AND s.owner_id = :owner_id
""")

_WRITE_PART: Final = text("""
UPDATE messages SET content = :content, sources = coalesce(CAST(:sources AS jsonb), sources), updated_at = now()
 WHERE organization_id = :organization_id AND id = :answer_id AND status = 'streaming'
""")

_END_DEAD: Final = text("""
UPDATE messages SET status = :status, finish_reason = :finish_reason, updated_at = now()
 WHERE organization_id = :organization_id AND id = :answer_id AND status = 'streaming' RETURNING id
""")

_NOTIFY: Final = text("SELECT pg_notify(:channel, :payload)")


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One earlier message."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A question and the answer that is about to be streamed.

    Where it names no bot, the session keeps its own; unless that is the one given, it takes `any_bot` to open the turn.
    """

    session_id: str
    title: str
    question_id: str
    question: str
    answer_id: str
    model: str
    bot_id: str | None = None
    bot_version_id: str | None = None
    names_bot: bool = False
    any_bot: bool = False


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as far as it is stored; `question` is the one asked last before it.

    `files_id` is the collection of its session's own files, if it has any.
    """

    session_id: str
    content: str
    status: str
    sources: list[dict[str, Any]]
    usage: dict[str, Any]
    model: str
    refused: bool
    finish_reason: str
    error: dict[str, Any] | None
    fallback: str | None
    degraded: str | None
    pending_documents: list[dict[str, Any]]
    files_id: str | None
    question: str


@dataclass(frozen=True, slots=True)
class SessionState:
    """What a turn must know of its session. `files_id` is the collection of its own files, if it has any.

    The summary is of older messages of the branch that is shown.
    """

    title_source: str = "question"
    files_id: str | None = None
    summary: str | None = None
    bot_id: str | None = None
    """The bot that answered last; None is the environment's."""


@dataclass(frozen=True, slots=True)
class OpenedTurn:
    """What a turn begins with: the messages before it, oldest first, and its session."""

    history: list[StoredTurn]
    state: SessionState


class TurnRepository(TextRepository):
    async def open_turn(self, turn: NewTurn, *, history: int) -> OpenedTurn | None:
        """Store the turn, in a new session or in one of the caller's; returns its last messages before it.

        None, and nothing is stored, when the session is somebody else's, or another bot's, or the caller's key is not live any more.

        Raises SessionBusy while another turn of it is being answered.
        """
        try:
            row = (
                await self.session.execute(
                    _OPEN_TURN,
                    {
                        "organization_id": self.organization_id,
                        "owner_id": self.principal.id,
                        "owner_is_unproven": self.principal.is_unproven,
                        "history": history,
                        **{name: getattr(turn, name) for name in NewTurn.__slots__},
                    },
                )
            ).one_or_none()
        except (IntegrityError, asyncpg.IntegrityConstraintViolationError) as error:
            if "uq_messages_streaming" in str(error):
                raise SessionBusy(retry_after_seconds=1) from error
            raise
        if row is None:
            return None
        return OpenedTurn([StoredTurn(*message) for message in row.history], _state(row))

    async def hand_to_bot(self, answer_id: str, *, model: str, bot_version_id: str | None) -> None:
        """Note who answers, where that is the session's bot, which is known only when the turn is open."""
        await self.session.execute(
            _HAND_TO_BOT,
            {
                "organization_id": self.organization_id,
                "answer_id": answer_id,
                "model": model,
                "bot_version_id": bot_version_id,
            },
        )

    async def state(self, session_id: str) -> SessionState:
        """That of a session, for turns that begin a branch of it."""
        row = (
            await self.session.execute(
                _STATE, {"organization_id": self.organization_id, "session_id": session_id}
            )
        ).one_or_none()
        return SessionState() if row is None else _state(row)

    async def interrupt_dead_answer(self, session_id: str, *, before: datetime) -> None:
        """Let go of a session whose answer was left streaming, by a process that must have died since."""
        await self.session.execute(
            _INTERRUPT_DEAD_ANSWER,
            {"organization_id": self.organization_id, "session_id": session_id, "before": before},
        )

    async def finish_answer(
        self,
        answer_id: str,
        values: Mapping[str, Any],
        *,
        payer: Payer | None = None,
        calls: Sequence[ModelCall] = (),
    ) -> None:
        """Write what became of an answer, unless it was finished already (or its session deleted).

        The calls of models made for it are noted in any case.
        """
        noted = call_parameters(payer, calls) if payer and calls else {}
        await self.session.execute(
            _FINISH_AND_NOTE if noted else _FINISH_ANSWER,
            {
                **noted,
                "organization_id": self.organization_id,
                "answer_id": answer_id,
                **values,
                "sources": _as_json(values["sources"]),
                "usage": _as_json(values["usage"]),
                "error": _as_json(values.get("error")),
                "fallback": values.get("fallback"),
                "degraded": values.get("degraded"),
                "pending_documents": _as_json(values.get("pending_documents", [])),
                "guardrails": _as_json(values.get("guardrails")),
            },
        )

    async def find_answer(self, answer_id: str) -> StoredAnswer | None:
        """An answer in a session of the caller's."""
        values = {
            "organization_id": self.organization_id,
            "owner_id": self.principal.id,
            "answer_id": answer_id,
        }
        row = (await self.session.execute(_STORED, values)).one_or_none()
        if row is None:
            return None
        return StoredAnswer(
            session_id=row.session_id,
            content=row.content,
            status=row.status,
            sources=_json(row.sources) or [],
            usage=_json(row.usage) or {},
            model=row.model or "",
            refused=row.refused,
            finish_reason=row.finish_reason or "",
            error=_json(row.error),
            fallback=row.fallback,
            degraded=row.degraded,
            pending_documents=_json(row.pending_documents),
            files_id=row.files_id,
            question=row.question or "",
        )

    async def write_part(self, answer_id: str, content: str, sources: list[dict[str, Any]] | None) -> None:
        """Store an answer as far as it has come; `sources` None leaves those that are stored."""
        values = {
            "organization_id": self.organization_id,
            "answer_id": answer_id,
            "content": content,
            "sources": _as_json(sources),
        }
        await self.session.execute(_WRITE_PART, values)

    async def end_dead(self, answer_id: str, *, status: str, finish_reason: str) -> bool:
        """Let go of an answer whose process is gone; whether it was still streaming."""
        values = {
            "organization_id": self.organization_id,
            "answer_id": answer_id,
            "status": status,
            "finish_reason": finish_reason,
        }
        return (await self.session.scalar(_END_DEAD, values)) is not None


def _state(row: Any) -> SessionState:
    return SessionState(row.title_source, row.files_id, row.summary, row.bot_id)


async def notify(session: AnyTransaction, channel: str, payload: str) -> None:
    """Tell all processes, once the transaction is committed."""
    await session.execute(_NOTIFY, {"channel": channel, "payload": payload})


def _as_json(value: Any) -> str | None:
    return None if value is None else to_json(value).decode()


def _json(value: Any) -> Any:
    """asyncpg gives JSON as text, SQLAlchemy what it says."""
    return json.loads(value) if isinstance(value, str) else value
