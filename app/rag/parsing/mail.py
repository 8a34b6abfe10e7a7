"""E-mails: who wrote what to whom and when, the body, and what is attached as far as it can be read."""

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage
from itertools import islice
from typing import Final

from app.core.decoding import EncodingUnknown, decode, marked_encoding
from app.rag.parsing.answer import Answer, Job
from app.rag.parsing.html import html_to_text
from app.rag.parsing.model import FailureCode, Kind, ParseFailed
from app.rag.parsing.sniffing import HEAD_BYTES, detect_type

_HEADERS: Final = ("Subject", "From", "To", "Cc", "Date")
_ATTACHMENTS: Final = 50
_PARTS: Final = 1_000
_DEPTH: Final = 3
_RICHER: Final = 1.5
"""How many times the words of the plain text the HTML must have to be the one that was meant to be read."""


def parse(job: Job, answer: Answer) -> None:
    content = job.read()
    if (mark := marked_encoding(content)) is not None:
        content = content.decode(mark, "replace").encode()
    elif b"\0" in content[:1000]:
        try:
            content = decode(content)[0].encode()
        except EncodingUnknown:
            raise ParseFailed(FailureCode.ENCODING_UNKNOWN) from None
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    subject = _header(message, "Subject")
    answer.add(
        sender=_header(message, "From"), recipients=_header(message, "To"), date=_header(message, "Date")
    )
    _write(message, job, answer, depth=0)
    answer.title = subject or None


def _write(message: EmailMessage, job: Job, answer: Answer, *, depth: int, label: str | None = None) -> None:
    lines = [f"{name}: {value}" for name in _HEADERS if (value := _header(message, name))]
    bodies, attachments = _parts(message)
    names = [_name(part, number) for number, part in enumerate(attachments, start=1)]
    if names:
        lines.append(f"Attachments: {', '.join(names)}")
    body = _body(bodies)
    if not body and not lines:
        raise ParseFailed(FailureCode.EMPTY_DOCUMENT if not message.keys() else FailureCode.CORRUPT)
    answer.text("\n".join(lines) + ("\n\n" + body if body else ""), label=label)
    for name, part in zip(names, attachments[:_ATTACHMENTS], strict=False):
        _read_attachment(name, part, job, answer, depth=depth)
    if len(attachments) > _ATTACHMENTS:
        answer.warn("attachments_left_out", f"Only the first {_ATTACHMENTS} attachments were read.")


def _parts(message: EmailMessage) -> tuple[list[EmailMessage], list[EmailMessage]]:
    """The parts that are the body, and those that are attached; what is within an attached e-mail stays in it."""
    bodies: list[EmailMessage] = []
    attachments: list[EmailMessage] = []
    waiting = [message]
    for _ in range(_PARTS):
        if not waiting:
            break
        part = waiting.pop()
        kind = part.get_content_type()
        attached = part is not message and (
            part.get_content_disposition() == "attachment" or bool(part.get_filename())
        )
        if part.is_multipart() and kind != "message/rfc822":
            waiting += [
                child for child in reversed(list(part.iter_parts())) if isinstance(child, EmailMessage)
            ]
        elif kind in ("text/plain", "text/html") and not attached:
            bodies.append(part)
        elif part is not message:
            attachments.append(part)
    return bodies, attachments


def _body(parts: list[EmailMessage]) -> str:
    plain = "\n\n".join(
        text for part in parts if part.get_content_type() == "text/plain" and (text := _text(part))
    )
    rich = "\n\n".join(
        text
        for part in parts
        if part.get_content_type() == "text/html" and (text := html_to_text(_text(part)))
    )
    return rich if len(rich.split()) > _RICHER * len(plain.split()) else plain


def _text(part: EmailMessage) -> str:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    for charset in (part.get_content_charset(), "utf-8"):
        try:
            return content.decode(charset or "ascii").replace("\r\n", "\n").strip()
        except (LookupError, UnicodeDecodeError):
            continue
    try:
        return decode(content)[0].replace("\r\n", "\n").strip()
    except EncodingUnknown:
        return content.decode("latin-1")


def _read_attachment(name: str, part: EmailMessage, job: Job, answer: Answer, *, depth: int) -> None:
    if part.get_content_type() == "message/rfc822":
        inner = next(islice(part.iter_parts(), 1), None)
        if isinstance(inner, EmailMessage) and depth < _DEPTH:
            _write(inner, job, answer, depth=depth + 1, label=name)
        return
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes) or not content.strip():
        return
    # Loaded here, because it loads this module for e-mails.
    from app.rag.parsing.running import parse_with

    try:
        kind = detect_type(content[:HEAD_BYTES], filename=name, declared=part.get_content_type())
        if kind is Kind.EMAIL or kind.is_image:
            return
        inner_answer = answer.attached(name)
        parse_with(
            replace(
                job, filename=name, kind=kind, content=content, content_type=part.get("Content-Type", "")
            ),
            inner_answer,
        )
    except ParseFailed as failure:
        if failure.code in (FailureCode.TOO_LARGE, FailureCode.BOMB):
            raise
        answer.warn("attachment_unreadable", "Some attachments can't be read.")
    except MemoryError:
        raise
    except Exception:  # whatever a parser stumbles over in one attachment, the e-mail itself is read
        answer.warn("attachment_unreadable", "Some attachments can't be read.")


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message.get(name) or "").split())
    except (
        Exception
    ):  # the standard library's header parser fails in many ways on malformed ones: then as it stands
        raw = next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")
        return " ".join(str(raw).split())


def _name(part: EmailMessage, number: int) -> str:
    try:
        return " ".join((part.get_filename() or "").split()) or f"attachment {number}"
    except Exception:  # as above; an attachment can do without a name
        return f"attachment {number}"
