"""Revisions as ETags: what a client knows of an object when it changes it."""

from app.core.errors import InvalidIfMatch

_MOST_DIGITS = 18


def etag(revision: int) -> str:
    return f'"{revision}"'


def revisions_of(if_match: str | None) -> frozenset[int] | None:
    """The revisions that the header allows; None allows all. Raises InvalidIfMatch."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in if_match.split(",")]
    if not all(tag.isascii() and tag.isdigit() and len(tag) <= _MOST_DIGITS for tag in tags):
        raise InvalidIfMatch
    return frozenset(map(int, tags))
