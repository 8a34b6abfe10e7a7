"""A turn of a conversation: begun, followed, stopped, taken up again; and what was said.

A turn goes on by itself (`course`) and is followed while it lasts (`live`), from other processes by way of the database
(`relay`).
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import anyio

from app.core import cursor, ids
from app.core.errors import AnotherQuestion, AnswerNotFound, MessageNotFound, SessionNotFound
from app.core.principal import Principal
from app.core.text import clean
from app.db.engine import Transaction
from app.db.models import Message, MessageStatus
from app.db.repositories.branches import BranchRepository
from app.db.repositories.conversations import ConversationRepository
from app.rag.llms import Turn
from app.services import course, relay
from app.services.answers import Answer, ChatEvent, Question, TurnFailed
from app.services.live import Following, LiveTurn, end_number
from app.services.runtime import Runtime


def begin(runtime: Runtime, principal: Principal, question: Question) -> LiveTurn:
    """A turn that has begun. It goes on until its end, or until whoever follows it has left it alone.

    Its failures are SessionNotFound for somebody else's session, SessionBusy while another turn of it runs, BotNotFound,
    MessageNotFound, and what `retrieval.search` and `ChatModel.generate` raise. Then, and when it is stopped, what there
    is of the answer is stored with status failed, interrupted or stopped.
    """
    question = _cleaned(question)
    turn = LiveTurn(
        principal,
        session_id=question.session_id or ids.new(ids.Prefix.SESSION),
        message_id=ids.new(ids.Prefix.MESSAGE),
    )
    runtime.turns.start(turn, course.run(runtime, principal, question, turn))
    return turn


async def converse(
    runtime: Runtime, principal: Principal, question: Question
) -> AsyncGenerator[ChatEvent, None]:
    """The events of one turn: TurnStarted, SourcesFound, AnswerDelta…, AnswerDone. Closing it stops the turn.

    Raises the turn's failure, before the first event or after it.
    """
    turn = begin(runtime, principal, question)
    try:
        async with aclosing(turn.follow()) as following:
            async for numbered in following:
                if numbered is None:
                    continue
                if isinstance(numbered.event, TurnFailed):
                    assert turn.failure is not None
                    raise turn.failure
                yield numbered.event
    finally:
        if not turn.is_over:
            turn.stop()
            with anyio.CancelScope(shield=True):
                await turn.ended()


async def answer(runtime: Runtime, principal: Principal, question: Question) -> Answer:
    """A turn without its events. Raises the turn's failure."""
    return await begin(runtime, principal, question).whole()


async def opened(
    turn: LiveTurn, *, seconds: float, meanwhile: Callable[[LiveTurn], None] = lambda turn: None
) -> LiveTurn:
    """The turn, once there is some text or that many seconds are over; `meanwhile` is called with what comes before.

    Raises its failure when that came first. Who is cancelled while waiting stops the turn.
    """
    try:
        await turn.opening(seconds, meanwhile)
    except BaseException:
        if not turn.is_over:
            turn.stop()
            with anyio.CancelScope(shield=True):
                await turn.ended()
        raise
    return turn


@dataclass(frozen=True, slots=True)
class Resumed:
    """An answer that is followed from somewhere on, whichever process gives it."""

    session_id: str
    is_read: bool
    """Whether the event named was the last one."""
    following: Following


async def resume(
    runtime: Runtime, principal: Principal, message_id: str, *, after: int, asked: str | None = None
) -> Resumed:
    """What comes after this number of the answer's events. With `asked`, that must be its question.

    Raises AnswerNotFound for one of somebody else's session too, and AnotherQuestion.
    """
    turn = runtime.turns.find(message_id)
    if turn is not None and turn.is_started:
        if not _is_same(turn.principal, principal):
            raise AnswerNotFound
        question, session_id, text, is_over = turn.asked, turn.session_id, turn.text, turn.is_over
        following = turn.follow(after)
    else:
        stored = await relay.stored_answer(runtime, principal, message_id)
        question, session_id, text = stored.question, stored.session_id, stored.content
        is_over = stored.status != MessageStatus.STREAMING
        following = relay.follow(runtime, principal, message_id, after=after)
    if asked is not None and clean(asked) != question:
        raise AnotherQuestion
    return Resumed(session_id, is_over and after == end_number(len(text)), following)


async def stop(runtime: Runtime, principal: Principal, message_id: str) -> Answer:
    """Have an answer end as it is, in whichever process, and give it. One that has ended already stays as it is.

    Raises AnswerNotFound.
    """
    turn = runtime.turns.find(message_id)
    if turn is not None and _is_same(turn.principal, principal):
        turn.stop()
        await turn.ended()
    return await relay.stopped_answer(runtime, principal, message_id)


async def show_branch(runtime: Runtime, principal: Principal, message_id: str) -> str:
    """Go on with the branch that this message is of; returns its session. Raises MessageNotFound and SessionBusy."""
    async with runtime.database.direct(principal) as session:
        branches = BranchRepository(session, principal)
        place = await branches.find(message_id)
        if place is None:
            raise MessageNotFound
        await branches.show(place, message_id)
        return place.session_id


@dataclass(frozen=True, slots=True)
class Shown:
    """A message, and the ids of all that stand in its place, itself among them, oldest first."""

    message: Message
    sibling_ids: Sequence[str]


async def messages(
    session: Transaction,
    principal: Principal,
    session_id: str,
    *,
    limit: int,
    offset: int,
    after: str | None = None,
    all_branches: bool = False,
) -> tuple[Sequence[Shown], str | None]:
    """A page of a session's messages in their order, and the cursor of the next one (None at the end).

    Raises SessionNotFound and InvalidCursor.
    """
    position = cursor.decode_position(after) if after else None
    conversations = ConversationRepository(session, principal)
    if await conversations.find_session(session_id) is None:
        raise SessionNotFound
    found = await conversations.messages(
        session_id, limit=limit + 1, offset=offset, after=position, all_branches=all_branches
    )
    page = found[:limit]
    parents = {message.parent_id for message in page if message.parent_id is not None}
    siblings = await BranchRepository(session, principal).siblings(session_id, parents)
    shown = [
        Shown(message, siblings.get((message.parent_id or "", message.role), [message.id]))
        if message.parent_id is not None
        else Shown(message, [message.id])
        for message in page
    ]
    return shown, cursor.encode_position(page[-1].position) if len(found) > limit else None


def _is_same(one: Principal, other: Principal) -> bool:
    """Whether sessions of the one are the other's own."""
    return (one.organization_id, one.id) == (other.organization_id, other.id)


def _cleaned(question: Question) -> Question:
    return replace(
        question,
        message=clean(question.message),
        history=question.history and tuple(Turn(turn.role, clean(turn.content)) for turn in question.history),
    )
