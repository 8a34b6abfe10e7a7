"""Pages of the web for documents: fetched from public addresses only, whatever a URL, a redirect or a name server says.

A name is resolved once, every address that it has is checked, and the connection goes to one of those; each redirect starts
over. robots.txt is honoured. There are limits on time, and on size before and after decompression.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote, urljoin
from urllib.robotparser import RobotFileParser

import httpcore

from app.core.addresses import AddressPolicy, UnsafeUrl, WebUrl, parse_url
from app.services.web_requests import (
    AGENT,
    CheckedBackend,
    Exchange,
    FetchCode,
    FetchFailed,
    FetchLimits,
    Resolve,
    decoded,
    header,
    resolve_name,
)

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_ROBOTS_BYTES: Final = 500_000
_ROBOTS_SECONDS: Final = 3600.0
_ROBOTS_KEPT: Final = 1_000
_FILENAME: Final = re.compile(r"filename\*?\s*=\s*(?:utf-8'[^']*')?\"?([^\";]+)", re.IGNORECASE)
_SUFFIXES: Final = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "application/pdf": ".pdf",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/csv": ".csv",
    "application/json": ".json",
}


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A page on disk; `filename` is a name with the suffix of its type, for people and parsers, not for storage."""

    path: Path
    final_url: str
    content_type: str
    filename: str
    size_bytes: int


class PageFetcher:
    """Fetches pages; keeps no connection open, and what robots.txt said for an hour."""

    def __init__(
        self,
        policy: AddressPolicy | None = None,
        *,
        resolve: Resolve | None = None,
        connections: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._backend = CheckedBackend(
            policy or AddressPolicy(), resolve or resolve_name, connections or httpcore.AnyIOBackend()
        )
        self._allowed = policy.allowed if policy is not None else ()
        self._robots: dict[str, tuple[float, RobotFileParser]] = {}

    def check(self, url: str) -> str:
        """The URL in its plainest form, as far as it can be told before its name is resolved. Raises UnsafeUrl."""
        return str(parse_url(url, allowed=self._allowed))

    async def fetch(self, url: str, *, into: Path, limits: FetchLimits | None = None) -> FetchedPage:
        """Write the page to the file `into` (which is gone again when this fails). Raises FetchFailed."""
        limits = limits or FetchLimits()
        try:
            async with asyncio.timeout(limits.seconds):
                return await self._follow(url, into, limits)
        except TimeoutError:
            await asyncio.to_thread(into.unlink, missing_ok=True)
            raise FetchFailed(
                FetchCode.TIMED_OUT, "The page did not answer in time.", retryable=True
            ) from None
        except BaseException:
            await asyncio.shield(asyncio.to_thread(into.unlink, missing_ok=True))
            raise

    async def _follow(self, url: str, into: Path, limits: FetchLimits) -> FetchedPage:
        for _ in range(limits.redirects + 1):
            target = self._parse(url)
            if limits.honour_robots and not await self._may_fetch(target, limits):
                raise FetchFailed(
                    FetchCode.FORBIDDEN_BY_ROBOTS, "The robots.txt of this site asks not to fetch this page."
                )
            async with self._open(target, limits) as response:
                if response.status not in _REDIRECTS:
                    return await _save(response, target, into, limits)
                location = header(response, b"location")
            if not location:
                raise FetchFailed(FetchCode.BROKEN_ANSWER, "The page redirects to nowhere.")
            url = urljoin(str(target), location)
        raise FetchFailed(FetchCode.TOO_MANY_REDIRECTS, "The page redirects too many times.")

    def _parse(self, url: str) -> WebUrl:
        try:
            return parse_url(url, allowed=self._allowed)
        except UnsafeUrl as error:
            raise FetchFailed(FetchCode.UNSAFE_URL, error.message) from None

    def _open(self, url: WebUrl, limits: FetchLimits) -> "Exchange":
        return Exchange(url, self._backend, limits)

    async def _may_fetch(self, url: WebUrl, limits: FetchLimits) -> bool:
        """Whether robots.txt lets us; a site without one does, one whose robots.txt fails does not for now (RFC 9309)."""
        now = asyncio.get_running_loop().time()
        known = self._robots.get(url.origin)
        if known is None or now - known[0] > _ROBOTS_SECONDS:
            while len(self._robots) >= _ROBOTS_KEPT:
                del self._robots[next(iter(self._robots))]
            known = self._robots[url.origin] = (now, await self._read_robots(url, limits))
        return known[1].can_fetch(AGENT, str(url))

    async def _read_robots(self, url: WebUrl, limits: FetchLimits) -> RobotFileParser:
        rules = RobotFileParser()
        target = WebUrl(url.scheme, url.host, url.port, "/robots.txt")
        for _ in range(limits.redirects + 1):
            async with self._open(target, limits) as response:
                if response.status in _REDIRECTS and (location := header(response, b"location")):
                    target = self._parse(urljoin(str(target), location))
                    continue
                if response.status >= 500:
                    raise FetchFailed(
                        FetchCode.REFUSED,
                        "The robots.txt of this site can't be read right now.",
                        retryable=True,
                    )
                text = b""
                if response.status == 200:
                    with suppress(FetchFailed):  # what is beyond the limit is not read, as others do
                        async for piece in decoded(response, most_bytes=_ROBOTS_BYTES):
                            text += piece
                rules.parse(text.decode("utf-8", "replace").splitlines())
                return rules
        rules.parse([])
        return rules


async def _save(response: httpcore.Response, url: WebUrl, into: Path, limits: FetchLimits) -> FetchedPage:
    _check_status(response.status)
    size_bytes = 0
    with await asyncio.to_thread(into.open, "wb") as file:
        async for piece in decoded(response, most_bytes=limits.size_bytes):
            size_bytes += len(piece)
            await asyncio.to_thread(file.write, piece)
    content_type = header(response, b"content-type") or "application/octet-stream"
    return FetchedPage(into, str(url), content_type, _filename(response, url, content_type), size_bytes)


def _check_status(status: int) -> None:
    if status == 200:
        return
    if status in (404, 410):
        raise FetchFailed(FetchCode.NOT_FOUND, "There is no page at this URL.")
    raise FetchFailed(
        FetchCode.REFUSED, f"The site answered with status {status}.", retryable=status in _PASSING
    )


def _filename(response: httpcore.Response, url: WebUrl, content_type: str) -> str:
    """A name for the page: the one that the site gives, or the end of its path, with a suffix that fits its type."""
    given = _FILENAME.search(header(response, b"content-disposition"))
    name = unquote(given[1].strip() if given is not None else url.target.partition("?")[0]).rstrip("/")
    name = re.sub(r"[\x00-\x1f\x7f<>:\"|?*\\]", "_", PurePosixPath(name).name)[-150:] or url.host
    suffix = _SUFFIXES.get(content_type.partition(";")[0].strip().lower())
    if suffix is None or PurePosixPath(name).suffix.lower() in (
        suffix,
        {".html": ".htm"}.get(suffix),
        ".markdown",
    ):
        return name
    return f"{name}{suffix}"
