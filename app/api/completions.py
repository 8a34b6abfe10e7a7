"""Chat events as OpenAI's chat completions, whole or in chunks."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import anyio
import structlog
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse

from app.api.compatible import error_of, unexpected
from app.api.draining import Draining
from app.api.errors import STATUS
from app.api.schemas import openai as schemas
from app.api.schemas.chat import Source as SourceModel
from app.core.errors import AppError, ServiceStopping
from app.core.usage import in_dollars
from app.services.answers import Answer, AnswerDelta, AnswerDone, ChatEvent, Source

log = structlog.get_logger(__name__)

_PING_SECONDS: Final = 15.0
_OPENING_SECONDS: Final = 5.0
_DONE: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the answers say of the request. `base_url` is where sources of ours are found."""

    model: str
    base_url: str
    warnings: Sequence[str]
    include_usage: bool = False


def completion(answer: Answer, asked: Asked) -> schemas.Completion:
    """The whole answer."""
    message = schemas.AnswerMessage(
        content=answer.answer,
        refusal=None,
        annotations=annotations(answer.answer, answer.sources, asked.base_url),
    )
    return schemas.Completion(
        id=_id(answer.message_id),
        created=int(time.time()),
        model=asked.model,
        choices=[schemas.Choice(message=message, finish_reason=_finish_reason(answer))],
        usage=_usage(answer),
        citations=_citations(answer, asked),
        sources=[SourceModel.model_validate(source) for source in answer.sources],
        refused=answer.refused,
        fallback_reason=answer.fallback,
        degraded=answer.degraded,
        warnings=list(asked.warnings),
    )


def annotations(text: str, sources: Sequence[Source], base_url: str) -> list[schemas.Annotation]:
    """Each marker in the text with the passage that it points at."""
    numbered = {source.n: source for source in sources}
    return [
        schemas.Annotation(
            url_citation=schemas.UrlCitation(
                start_index=marker.start(),
                end_index=marker.end(),
                title=source.title,
                url=_url(source, base_url),
                document_id=source.document_id,
                chunk_id=source.chunk_id,
                page=source.page,
                start=source.start,
                end=source.end,
                snippet=source.snippet,
            )
        )
        for marker in schemas.MARKER.finditer(text)
        if (source := numbered.get(int(marker[1]))) is not None
    ]


async def opened(events: AsyncGenerator[ChatEvent, None]) -> "Opening":
    """The events until the first text, at most five seconds of them: a failure until then has its own status."""
    seen: list[ChatEvent] = []
    now = asyncio.get_running_loop().time
    deadline = now() + _OPENING_SECONDS
    while not (seen and isinstance(seen[-1], AnswerDelta | AnswerDone)):
        upcoming: asyncio.Future[ChatEvent] = asyncio.ensure_future(anext(events))
        try:
            done, _ = await asyncio.wait([upcoming], timeout=max(0.0, deadline - now()))
        except asyncio.CancelledError:
            await _cancelled(upcoming)
            await events.aclose()
            raise
        if not done:
            return Opening(seen, upcoming)
        seen.append(upcoming.result())
    return Opening(seen, None)


@dataclass(frozen=True, slots=True)
class Opening:
    """The first events, and the next one where it was still awaited."""

    events: list[ChatEvent]
    awaited: "asyncio.Future[ChatEvent] | None"


class CompletionStream(EventSourceResponse):
    """The chunks of an answer: the role, the text, how it ended with its citations, the usage if asked for, `[DONE]`."""

    def __init__(
        self, opening: Opening, events: AsyncGenerator[ChatEvent, None], asked: Asked, draining: Draining
    ) -> None:
        super().__init__(
            _frames(opening, events, asked, draining),
            headers={
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
                **warning_headers(asked.warnings),
            },
        )


def warning_headers(warnings: Sequence[str]) -> dict[str, str]:
    """What was ignored, also for clients that drop fields they do not know."""
    return {"X-Ibid-Ignored": ", ".join(warnings)} if warnings else {}


async def _frames(
    opening: Opening, events: AsyncGenerator[ChatEvent, None], asked: Asked, draining: Draining
) -> AsyncGenerator[bytes, None]:
    chunks = _Chunks(asked)
    async with aclosing(events):
        try:
            yield chunks.frame({"role": "assistant", "content": ""})
            async with aclosing(_followed(opening, events, draining)) as following:
                async for event in following:
                    if event is None:
                        yield KEEPALIVE_COMMENT
                    elif isinstance(event, AnswerDelta):
                        yield chunks.frame({"content": event.delta})
                    elif isinstance(event, AnswerDone):
                        for frame in chunks.end(event.answer):
                            yield frame
        except AppError as error:
            yield _event(error_of(error, STATUS[error.category]))
        except Exception as error:  # the status is sent already: the stream itself must say that it failed
            log.error("stream_failed", exc_info=error)
            yield _event(unexpected())


async def _followed(
    opening: Opening, events: AsyncGenerator[ChatEvent, None], draining: Draining
) -> AsyncGenerator[ChatEvent | None, None]:
    """The events, and None now and then where none comes. Raises ServiceStopping when the process ends before they do."""
    for event in opening.events:
        yield event
    upcoming = opening.awaited
    with draining.work() as under_way:
        try:
            while True:
                upcoming = upcoming or asyncio.ensure_future(anext(events))
                under_way.awaited = upcoming
                if under_way.is_stopped:
                    upcoming.cancel()
                while not (await asyncio.wait([upcoming], timeout=_PING_SECONDS))[0]:
                    yield None
                if upcoming.cancelled() and under_way.is_stopped:
                    raise ServiceStopping
                try:
                    event = upcoming.result()
                except StopAsyncIteration:
                    return
                upcoming = None
                yield event
        finally:
            if upcoming is not None:
                await _cancelled(upcoming)


async def _cancelled(task: "asyncio.Future[Any]") -> None:
    if not task.done():
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])


class _Chunks:
    """The frames of one stream, which share all but their choice."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._head: dict[str, Any] = {
            "id": _id(f"msg_{time.time_ns():x}"),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": asked.model,
        }
        if asked.include_usage:
            self._head["usage"] = None

    def frame(self, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event({**self._head, "choices": [choice], **more})

    def end(self, answer: Answer) -> list[bytes]:
        found = annotations(answer.answer, answer.sources, self._asked.base_url)
        frames = [
            self.frame(
                {"annotations": [annotation.model_dump() for annotation in found]} if found else {},
                _finish_reason(answer),
                citations=_citations(answer, self._asked),
                sources=[SourceModel.model_validate(source).model_dump() for source in answer.sources],
                refused=answer.refused,
                fallback_reason=answer.fallback,
                degraded=answer.degraded,
                warnings=list(self._asked.warnings),
            )
        ]
        if self._asked.include_usage:
            frames.append(_event({**self._head, "choices": [], "usage": _usage(answer).model_dump()}))
        return [*frames, _DONE]


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _id(message_id: str) -> str:
    return f"chatcmpl-{message_id.removeprefix('msg_')}"


def _finish_reason(answer: Answer) -> str:
    """OpenAI's words for it: nothing else is known to its clients."""
    return answer.finish_reason if answer.finish_reason in ("length", "content_filter") else "stop"


def _usage(answer: Answer) -> schemas.CompletionUsage:
    usage = answer.usage
    prompt, answered = usage.prompt_tokens or 0, usage.completion_tokens or 0
    return schemas.CompletionUsage(
        prompt_tokens=prompt,
        completion_tokens=answered,
        total_tokens=prompt + answered,
        cost_usd=None if usage.cost_usd is None else in_dollars(usage.cost_usd),
        estimated=usage.estimated,
    )


def _citations(answer: Answer, asked: Asked) -> list[str]:
    return [_url(source, asked.base_url) for source in answer.sources]


def _url(source: Source, base_url: str) -> str:
    """The page that a document was taken from, or the document here."""
    if source.source is not None and source.source.startswith(("https://", "http://")):
        return source.source
    return f"{base_url}/documents/{source.document_id}"
