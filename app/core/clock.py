"""The one place that reads the wall clock, so that every stored time is aware and in UTC."""

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)
