"""Conversations as files: Markdown for people, JSON for programs."""

import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from app.api.schemas.chat import MessageResponse
from app.api.schemas.sessions import SessionResponse
from app.db.models import Message
from app.services.session_exports import Export

Format = Literal["markdown", "json"]
MEDIA_TYPES: Final[Mapping[str, str]] = {
    "markdown": "text/markdown; charset=utf-8",
    "json": "application/json",
}
_MARKER: Final = re.compile(r"\[(\d{1,3})\]")
_SPEAKERS: Final = {"user": "You", "assistant": "Answer", "system": "System"}
_STATES: Final = {
    "streaming": "This answer is still being written.",
    "interrupted": "This answer was broken off.",
    "stopped": "This answer was stopped.",
    "failed": "There is no answer: something went wrong.",
}
_BY_WORDS: Final = "The documents were searched by words alone, since the embedding provider was away."
_WITHOUT: Final = "Still being read then, and not used: {}."
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~])")


def written(export: Export, format_: Format) -> AsyncIterator[bytes]:
    """The file, piece by piece."""
    return _markdown(export) if format_ == "markdown" else _json(export)


async def _json(export: Export) -> AsyncIterator[bytes]:
    session = SessionResponse.model_validate(export.session).model_dump_json()
    yield f'{{"session":{session},"messages":['.encode()
    separator = ""
    async for piece in export.pieces:
        for message in piece:
            yield f"{separator}\n{MessageResponse.model_validate(message).model_dump_json()}".encode()
            separator = ","
    yield b"\n]}\n"


async def _markdown(export: Export) -> AsyncIterator[bytes]:
    session = export.session
    yield f"# {escaped(session.title)}\n\n{_moment(session.created_at)}\n".encode()
    number = 0
    async for piece in export.pieces:
        for message in piece:
            number += 1
            yield _markdown_message(message, number).encode()


def _markdown_message(message: Message, number: int) -> str:
    heading = f"\n## {_SPEAKERS[message.role]} · {_moment(message.created_at)}\n\n"
    if message.role == "user":
        return heading + _quoted(message.content)
    sources = _cited(message.sources, message.content)
    text = _MARKER.sub(
        lambda found: f"[^{number}-{found[1]}]" if int(found[1]) in sources else found[0], message.content
    )
    notes = "".join(f"\n[^{number}-{n}]: {_footnote(source)}" for n, source in sorted(sources.items()))
    remarks = [
        _STATES.get(message.status),
        _BY_WORDS if message.degraded else None,
        _WITHOUT.format(", ".join(escaped(file["title"]) for file in message.pending_documents))
        if message.pending_documents
        else None,
    ]
    remark = "".join(f"\n\n*{each}*" for each in remarks if each)
    return f"{heading}{text}{remark}\n{notes}\n" if notes else f"{heading}{text}{remark}\n"


def _cited(sources: Sequence[Mapping[str, Any]], content: str) -> Mapping[int, Mapping[str, Any]]:
    named: Collection[int] = {int(found[1]) for found in _MARKER.finditer(content)}
    return {source["n"]: source for source in sources if source["n"] in named}


def _footnote(source: Mapping[str, Any]) -> str:
    where = (
        source["title"]
        if source.get("source") in (None, source["title"])
        else f"{source['title']} ({source['source']})"
    )
    return f"{escaped(where)}, page {source['page']}: “{escaped(source['snippet'])}”"


def escaped(text: str) -> str:
    """A text on one line, in which nothing is Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _quoted(text: str) -> str:
    return "".join(f"> {line}\n" for line in text.splitlines() or [""])


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
