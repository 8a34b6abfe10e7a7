"""What has the shape of a credential does not get into a log, in whatever field of whichever library's record."""

import asyncio
import io
import json
import logging as stdlib_logging
from collections.abc import Iterator

import pytest
import structlog

from app.core import logging, security

KEY = "ibid_0123456789ab_" + "Secret" * 7 + "X"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root = stdlib_logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logging.configure(level="debug", log_format="json")
    yield stream
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configured)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"/documents/{KEY}", f"/documents/{KEY[:18]}***"),
        ("key sk-proj-abcdefghijklmnopqrstuvwxyz wrong", "key sk-*** wrong"),
        ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJlLXRleHQ", "Bearer eyJ***"),
        ("postgresql://ibid:p%40ss@db:5432/ibid", "postgresql://ibid:***@db:5432/ibid"),
        ("redis://:secret@cache", "redis://:***@cache"),
    ],
)
def test_credentials_are_cut_out_of_every_line(written: io.StringIO, text: str, left: str) -> None:
    structlog.get_logger("app").info("request", path=text, nested={"deep": [text]})
    stdlib_logging.getLogger("a.library").warning("it says %s", text)
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        structlog.get_logger("app").error("failed", exc_info=error)

    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert len(lines) == 3
    assert (lines[0]["path"], lines[0]["nested"]["deep"]) == (left, [left])
    assert lines[1]["event"] == f"it says {left}"
    assert text not in written.getvalue()


def test_the_key_of_this_test_has_the_shape_of_one() -> None:
    assert security.parse_api_key(KEY) is not None


@pytest.mark.parametrize(
    "text", ["/documents/doc_01m7wq1vj5ewwb06fppj5j8prz", "http://host:8000/path", "ask-me-anything-about-it"]
)
def test_what_is_none_is_left(written: io.StringIO, text: str) -> None:
    structlog.get_logger("app").info("request", path=text)

    assert json.loads(written.getvalue())["path"] == text


@pytest.mark.parametrize(("failure", "is_told"), [(asyncio.CancelledError(), False), (OSError("gone"), True)])
def test_a_connection_closed_by_a_task_that_is_cancelled_is_no_error(
    written: io.StringIO, failure: BaseException, is_told: bool
) -> None:
    stdlib_logging.getLogger("sqlalchemy.pool.impl.AsyncAdaptedQueuePool").error(
        "Exception closing connection", exc_info=failure
    )
    assert bool(written.getvalue()) is is_told
