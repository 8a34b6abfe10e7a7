"""What the messages of a WebSocket connection do.

Every question ends with exactly one `stream_end` or one `error`. A connection that breaks leaves its answers to be resumed
on another one.
"""

from contextlib import aclosing

from fastapi import WebSocket

from app.api import quotas
from app.api.document_events import document_event
from app.api.questions import question_of
from app.api.schemas import chat as chat_schemas
from app.api.schemas import sockets as schemas
from app.api.socket_admission import Admission
from app.api.sockets import Connection
from app.api.streaming import answer_fields, failure_detail, progress_event
from app.core import origin
from app.core.principal import Principal, Scope
from app.core.rates import Activity
from app.services import auth, chat, progress
from app.services.answers import (
    Answer,
    AnswerDelta,
    AnswerDone,
    DocumentProgress,
    Question,
    SourcesFound,
    TurnFailed,
    TurnStarted,
)
from app.services.course import STOPPED
from app.services.live import Following, Numbered
from app.services.runtime import Runtime


class Answers:
    """Does what the messages of one connection say."""

    def __init__(self, socket: WebSocket, runtime: Runtime, admission: Admission) -> None:
        self._socket = socket
        self._runtime = runtime
        self._admission = admission
        self._followed: set[str] = set()

    async def __call__(self, connection: Connection, message: schemas.ClientMessage) -> None:
        match message:
            case schemas.Ping():
                await connection.send(schemas.Pong(ref=message.ref))
            case schemas.Authenticate():
                principal = await self._admission.renew(message.token, message.organization_id)
                await connection.send(schemas.Authenticated(organization_id=principal.organization))
            case schemas.UserMessage():
                await self._ask(
                    connection, question_of(message, stream=True, edits=message.edit_of), message.ref
                )
            case schemas.Regenerate():
                question = question_of(message, stream=True, regenerates=message.message_id)
                await self._ask(connection, question, message.ref)
            case schemas.Stop():
                principal = await self._principal(Scope.CHAT)
                connection.start(self._stop(connection, principal, message), message.ref)
            case schemas.Resume():
                principal = await self._principal(Scope.CHAT)
                connection.start(self._resume(connection, principal, message), message.ref)
            case schemas.FollowDocument():
                principal = await self._principal(Scope.READ)
                connection.start(self._follow_document(connection, principal, message), message.ref)

    async def _ask(self, connection: Connection, question: Question, ref: str | None) -> None:
        principal = await self._principal(Scope.CHAT)
        await quotas.count_address(self._socket, self._runtime, Activity.CHAT, origin.address() or "")
        await quotas.count_caller(self._socket, self._runtime, Activity.CHAT, principal)
        connection.require_room()
        turn = chat.begin(self._runtime, principal, question)
        turn.linger(self._runtime.settings.chat_resume_seconds)
        connection.start(self._hand_on(connection, turn.message_id, turn.follow(), ref), ref)

    async def _resume(self, connection: Connection, principal: Principal, message: schemas.Resume) -> None:
        resumed = await chat.resume(self._runtime, principal, message.message_id, after=message.after)
        await self._hand_on(connection, message.message_id, resumed.following, message.ref)

    async def _hand_on(
        self, connection: Connection, message_id: str, following: Following, ref: str | None
    ) -> None:
        self._followed.add(message_id)
        try:
            async with aclosing(following):
                async for numbered in following:
                    if (
                        numbered is None
                    ):  # the protocol itself sees to it that the connection does not look dead
                        continue
                    await connection.send(_message(message_id, numbered, ref))
                    if isinstance(numbered.event, AnswerDone):
                        await connection.send(_saved(numbered.event.answer, ref))
        finally:
            self._followed.discard(message_id)

    async def _stop(self, connection: Connection, principal: Principal, message: schemas.Stop) -> None:
        is_told = message.message_id in self._followed
        answer = await chat.stop(self._runtime, principal, message.message_id)
        if not is_told:
            await connection.send(_saved(answer, message.ref))

    async def _follow_document(
        self, connection: Connection, principal: Principal, message: schemas.FollowDocument
    ) -> None:
        states = progress.follow(self._runtime, principal, message.document_id, seen=None)
        async with aclosing(states):
            async for state in states:
                await connection.send(
                    schemas.DocumentProgress(document=document_event(state), ref=message.ref)
                )

    async def _principal(self, scope: Scope) -> Principal:
        """Who is on the connection, asked again: keys are revoked, tokens expire."""
        principal = await self._admission.principal()
        auth.require_scope(principal, scope)
        return principal


def _saved(answer: Answer, ref: str | None) -> schemas.MessageSaved:
    return schemas.MessageSaved(
        session_id=answer.session_id,
        message_id=answer.message_id,
        status="stopped" if answer.finish_reason == STOPPED else "complete",
        ref=ref,
    )


def _message(message_id: str, numbered: Numbered, ref: str | None) -> object:
    number = numbered.number
    match numbered.event:
        case AnswerDelta(delta):
            return schemas.StreamChunk(number=number, message_id=message_id, delta=delta, ref=ref)
        case DocumentProgress() as file:
            return schemas.DocumentProgress(document=progress_event(file), ref=ref)
        case TurnStarted(session_id):
            return schemas.StreamStart(number=number, session_id=session_id, message_id=message_id, ref=ref)
        case SourcesFound(sources):
            shown = [chat_schemas.Source.model_validate(source) for source in sources]
            return schemas.Sources(number=number, message_id=message_id, sources=shown, ref=ref)
        case AnswerDone(answer):
            return schemas.StreamEnd(number=number, ref=ref, **answer_fields(answer))
        case TurnFailed() as failure:
            return schemas.SocketError(
                number=number, message_id=message_id, error=failure_detail(failure), ref=ref
            )
