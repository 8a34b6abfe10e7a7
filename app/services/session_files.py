"""Files put into a conversation: a private collection of its own, made on demand, which goes with the session.

An answer waits a little for files that are still being read, and tells how far they are; then it goes on without them and
says which ones it had to leave out.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from app.core import ids, waiting
from app.core.errors import AppError, SessionNotFound, TooManySessionFiles
from app.core.principal import Principal
from app.db import queue
from app.db.engine import AnyTransaction
from app.db.models import DocumentStatus
from app.db.repositories.session_files import FileState, SessionFileRepository
from app.services.answers import DocumentProgress
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

_COLLECTION_NAME: Final = "Files of a session"
_MOST_FILES: Final = 50
_TITLE_CHARACTERS: Final = 80
_LONGEST_TELLING_SECONDS: Final = 3600.0
_LONGEST_PAUSE_SECONDS: Final = 0.5
"""Notifications are hints, and may be lost with a connection."""

_TO_COME: Final = (DocumentStatus.UPLOADED, DocumentStatus.PROCESSING)


@dataclass(frozen=True, slots=True)
class Place:
    session_id: str
    collection_id: str


async def place(
    runtime: Runtime, principal: Principal, session_id: str | None, *, title: str | None, arriving: int
) -> Place:
    """Where files of a session of the caller's go; a session that is not there is made, called after the file.

    Raises SessionNotFound and TooManySessionFiles.
    """
    session_id = session_id or ids.new(ids.Prefix.SESSION)
    name = " ".join((title or "").split())[:_TITLE_CHARACTERS] or _COLLECTION_NAME
    async with runtime.database.unit_of_work(principal) as session:
        shelf = await SessionFileRepository(session, principal).shelf(
            session_id, title=name, name=_COLLECTION_NAME
        )
        if shelf is None:
            raise SessionNotFound
        if shelf.documents + arriving > _MOST_FILES:
            raise TooManySessionFiles(details={"limit": _MOST_FILES})
    return Place(session_id, shelf.collection_id)


async def require_room(session: AnyTransaction, principal: Principal, collection_id: str) -> None:
    """Make sure that one more document has room, where the collection is of a session's files; else nothing is asked.

    Until the transaction ends no other one is let in. Raises TooManySessionFiles.
    """
    if collection_id < ids.FIRST_OF_SESSIONS:
        return
    if await SessionFileRepository(session, principal).count(collection_id) >= _MOST_FILES:
        raise TooManySessionFiles(details={"limit": _MOST_FILES})


@asynccontextmanager
async def told(
    runtime: Runtime,
    principal: Principal,
    collection_id: str | None,
    tell: Callable[[DocumentProgress], None],
) -> AsyncIterator[tuple[DocumentProgress, ...]]:
    """Wait a little for the files of a session, then go on; gives those that can't be searched yet.

    `tell` hears how far they are, also for as long as the block lasts. None is a session without files, at no cost.
    """
    if collection_id is None:
        yield ()
        return
    watch = Watch(runtime, principal, collection_id)
    async for progress in watch.wait(runtime.settings.chat_file_wait_seconds):
        tell(progress)
    if not watch.to_come:
        yield ()
        return
    telling = asyncio.create_task(_tell_all(watch, tell), name="files of a session")
    try:
        yield tuple(watch.to_come)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _tell_all(watch: "Watch", tell: Callable[[DocumentProgress], None]) -> None:
    try:
        async for progress in watch.wait(_LONGEST_TELLING_SECONDS):
            tell(progress)
    except AppError as error:  # the answer goes on, and will find out by itself
        log.debug("files_not_told", reason=error.code)


class Watch:
    """The files of a session that were yet to be read when somebody asked."""

    def __init__(self, runtime: Runtime, principal: Principal, collection_id: str) -> None:
        self._runtime = runtime
        self._principal = principal
        self._collection_id = collection_id
        self._states: dict[str, FileState] = {}

    @property
    def to_come(self) -> list[DocumentProgress]:
        """Those that can't be searched yet."""
        return [_progress(state) for state in self._states.values() if state.status in _TO_COME]

    async def news(self) -> list[DocumentProgress]:
        """What has changed since this was last asked; of files that are gone, nothing."""
        async with self._runtime.database.direct(self._principal) as session:
            found = await SessionFileRepository(session, self._principal).progress(
                self._collection_id, known=self._states, limit=_MOST_FILES
            )
        before, self._states = self._states, {state.document_id: state for state in found}
        return [_progress(state) for state in found if before.get(state.document_id) != state]

    async def wait(self, seconds: float) -> AsyncGenerator[DocumentProgress, None]:
        """What there is to tell until all files can be searched (or can't be read), for so long at most."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        for told in await self.news():
            yield told
        while self.to_come and (left := deadline - loop.time()) > 0:
            await self._changed(min(left, _LONGEST_PAUSE_SECONDS))
            for told in await self.news():
                yield told

    async def _changed(self, seconds: float) -> None:
        names = [told.document_id for told in self.to_come]
        with self._runtime.listener.watching(queue.DOCUMENTS, *names) as changed:
            await waiting.happened(changed, seconds)


def _progress(state: FileState) -> DocumentProgress:
    return DocumentProgress(
        document_id=state.document_id,
        title=state.title,
        status=state.status,
        stage=state.stage,
        progress=1.0 if state.status == DocumentStatus.COMPLETED else state.progress,
        chunks=state.chunks,
        error=None if state.error is None else json.loads(state.error),
    )
