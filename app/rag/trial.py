"""One tiny question to a chat model, to see whether it can be asked at all; nothing is retried."""

import asyncio
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from app.rag.errors import ChatRefused
from app.rag.llms import ChatModel
from app.rag.provider_http import (
    ProviderAddressError,
    ProviderCertificateError,
    ProviderConnectionError,
    ProviderNameError,
    ProviderTimeoutError,
)

QUESTION: Final = "Reply with the word OK."
_MAX_TOKENS: Final = 16


class Outcome(StrEnum):
    OK = "ok"
    BAD_KEY = "bad_key"
    NOT_PERMITTED = "not_permitted"
    UNKNOWN_MODEL = "unknown_model"
    NOT_ACCEPTED = "not_accepted"
    LIMITED = "limited"
    PROVIDER_FAILED = "provider_failed"
    REDIRECTED = "redirected"
    UNREACHABLE = "unreachable"
    UNKNOWN_HOST = "unknown_host"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    TLS_FAILED = "tls_failed"
    TIMED_OUT = "timed_out"
    NO_MODEL_SERVER = "no_model_server"


_OF_STATUS: Final = {
    HTTPStatus.UNAUTHORIZED: Outcome.BAD_KEY,
    HTTPStatus.FORBIDDEN: Outcome.NOT_PERMITTED,
    HTTPStatus.NOT_FOUND: Outcome.UNKNOWN_MODEL,
    HTTPStatus.METHOD_NOT_ALLOWED: Outcome.NO_MODEL_SERVER,
    HTTPStatus.REQUEST_TIMEOUT: Outcome.TIMED_OUT,
    HTTPStatus.PAYMENT_REQUIRED: Outcome.LIMITED,
    HTTPStatus.TOO_MANY_REQUESTS: Outcome.LIMITED,
}
_OF_FAILURE: Final = (
    (ProviderTimeoutError, Outcome.TIMED_OUT),
    (ProviderAddressError, Outcome.ADDRESS_NOT_ALLOWED),
    (ProviderCertificateError, Outcome.TLS_FAILED),
    (ProviderNameError, Outcome.UNKNOWN_HOST),
    (ProviderConnectionError, Outcome.UNREACHABLE),
)


async def ask(model: ChatModel, *, timeout_seconds: float) -> Outcome:
    """How the model takes a question."""
    message = ChatMessage(role=MessageRole.USER, content=QUESTION)
    try:
        async with asyncio.timeout(timeout_seconds):
            await model.llm.achat([message], temperature=0.0, max_tokens=_MAX_TOKENS)
    except ChatRefused as refusal:
        return _of_status(refusal.status)
    except ProviderConnectionError as failure:
        return next(outcome for kind, outcome in _OF_FAILURE if isinstance(failure, kind))
    except TimeoutError:
        return Outcome.TIMED_OUT
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return Outcome.NO_MODEL_SERVER
    return Outcome.OK


def _of_status(status: int) -> Outcome:
    if status in _OF_STATUS:
        return _OF_STATUS[HTTPStatus(status)]
    if status < HTTPStatus.BAD_REQUEST:
        return Outcome.REDIRECTED if status >= HTTPStatus.MULTIPLE_CHOICES else Outcome.NO_MODEL_SERVER
    failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return Outcome.PROVIDER_FAILED if failed else Outcome.NOT_ACCEPTED
