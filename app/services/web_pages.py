"""Pages of the web for documents: fetched from public addresses only, whatever a URL, a redirect or a name server says.

A name is resolved once, every address that it has is checked, and the connection goes to one of those; each redirect starts
over. No proxy of the environment, no cookies, no credentials, limits on time and on size before and after decompression.
"""

import asyncio
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urljoin
from urllib.robotparser import RobotFileParser

import httpcore
import httpx

from app import __version__
from app.core.addresses import AddressPolicy, UnsafeUrl, WebUrl, parse_url

AGENT: Final = "Ibid"
USER_AGENT: Final = f"{AGENT}/{__version__} (fetches single pages that a user asks for)"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_ROBOTS_BYTES: Final = 500_000
_ROBOTS_SECONDS: Final = 3600.0
_ROBOTS_KEPT: Final = 1_000
_PIECE_BYTES: Final = 1 << 16
_ADDRESSES_TRIED: Final = 4
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

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From host and port to addresses. Raises OSError where there are none."""


class FetchCode(StrEnum):
    UNSAFE_URL = "unsafe_url"
    FORBIDDEN_BY_ROBOTS = "forbidden_by_robots"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    TOO_LARGE = "too_large"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    BROKEN_ANSWER = "broken_answer"


class FetchFailed(Exception):
    """The page can't be had; `retryable` when the next time may be different."""

    def __init__(self, code: FetchCode, message: str, *, retryable: bool = False) -> None:
        self.code = code
        self.message = message
        self.retryable = retryable
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one page may take, its redirects and its robots.txt included."""

    size_bytes: int = 50_000_000
    seconds: float = 60
    connect_seconds: float = 10
    read_seconds: float = 20
    redirects: int = 5
    honour_robots: bool = True


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
        self._backend = _CheckedBackend(
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
                location = _header(response, b"location")
            if not location:
                raise FetchFailed(FetchCode.BROKEN_ANSWER, "The page redirects to nowhere.")
            url = urljoin(str(target), location)
        raise FetchFailed(FetchCode.TOO_MANY_REDIRECTS, "The page redirects too many times.")

    def _parse(self, url: str) -> WebUrl:
        try:
            return parse_url(url, allowed=self._allowed)
        except UnsafeUrl as error:
            raise FetchFailed(FetchCode.UNSAFE_URL, error.message) from None

    def _open(self, url: WebUrl, limits: FetchLimits) -> "_Exchange":
        return _Exchange(url, self._backend, limits)

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
                if response.status in _REDIRECTS and (location := _header(response, b"location")):
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
                        async for piece in _decoded(response, most_bytes=_ROBOTS_BYTES):
                            text += piece
                rules.parse(text.decode("utf-8", "replace").splitlines())
                return rules
        rules.parse([])
        return rules


async def resolve_name(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, in the order in which the system wants them tried."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that have been checked, never to names."""

    def __init__(
        self, policy: AddressPolicy, resolve: Resolve, connections: httpcore.AsyncNetworkBackend
    ) -> None:
        self._policy = policy
        self._resolve = resolve
        self._connections = connections

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the name of the interface)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise FetchFailed(
                FetchCode.UNREACHABLE, "There is no host of this name.", retryable=True
            ) from None
        if not addresses:
            raise FetchFailed(FetchCode.UNREACHABLE, "There is no host of this name.", retryable=True)
        if not all(self._policy.allows(address, port=port) for address in addresses):
            raise FetchFailed(FetchCode.UNSAFE_URL, "The host of the URL is not a public one.")
        failure: Exception | None = None
        for address in addresses[:_ADDRESSES_TRIED]:
            try:
                return await self._connections.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise FetchFailed(FetchCode.UNSAFE_URL, "Sockets of this machine can't be fetched.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Exchange:
    """One request and its answer, on a connection of its own."""

    def __init__(self, url: WebUrl, backend: _CheckedBackend, limits: FetchLimits) -> None:
        self._url = url
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_trusted(), network_backend=backend, max_connections=1
        )
        self._limits = limits
        self._response: httpcore.Response | None = None

    async def __aenter__(self) -> httpcore.Response:
        timeouts = {
            "connect": self._limits.connect_seconds,
            "pool": self._limits.connect_seconds,
            "read": self._limits.read_seconds,
            "write": self._limits.read_seconds,
        }
        host = self._url.origin.partition("://")[2]
        headers = [
            ("Host", host),
            ("User-Agent", USER_AGENT),
            ("Accept", "text/html, application/xhtml+xml, application/pdf, text/plain, */*;q=0.5"),
            ("Accept-Encoding", "gzip, deflate"),
            ("Connection", "close"),
        ]
        request = httpcore.Request(
            "GET", _core_url(self._url), headers=headers, extensions={"timeout": timeouts}
        )
        try:
            self._response = await self._pool.handle_async_request(request)
        except BaseException as error:
            await self._pool.aclose()
            raise _failure(error) from error
        return self._response

    async def __aexit__(self, *_: object) -> None:
        if self._response is not None:
            with suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
                await self._response.aclose()
        await self._pool.aclose()


def _core_url(url: WebUrl) -> httpcore.URL:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return httpcore.URL(
        scheme=url.scheme.encode(), host=host.strip("[]").encode(), port=url.port, target=url.target.encode()
    )


@cache
def _trusted() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def _failure(error: BaseException) -> BaseException:
    """What went wrong with a connection, in words; everything else as it is."""
    if isinstance(error, httpcore.TimeoutException):
        return FetchFailed(FetchCode.TIMED_OUT, "The page did not answer in time.", retryable=True)
    if isinstance(error, httpcore.NetworkError | OSError | ssl.SSLError):
        return FetchFailed(FetchCode.UNREACHABLE, "The host can't be reached.", retryable=True)
    if isinstance(error, httpcore.ProtocolError | httpcore.UnsupportedProtocol):
        return FetchFailed(FetchCode.BROKEN_ANSWER, "The answer of the host is no valid HTTP.")
    return error


async def _save(response: httpcore.Response, url: WebUrl, into: Path, limits: FetchLimits) -> FetchedPage:
    _check_status(response.status)
    size_bytes = 0
    with await asyncio.to_thread(into.open, "wb") as file:
        async for piece in _decoded(response, most_bytes=limits.size_bytes):
            size_bytes += len(piece)
            await asyncio.to_thread(file.write, piece)
    content_type = _header(response, b"content-type") or "application/octet-stream"
    return FetchedPage(into, str(url), content_type, _filename(response, url, content_type), size_bytes)


def _check_status(status: int) -> None:
    if status == 200:
        return
    if status in (404, 410):
        raise FetchFailed(FetchCode.NOT_FOUND, "There is no page at this URL.")
    raise FetchFailed(
        FetchCode.REFUSED, f"The site answered with status {status}.", retryable=status in _PASSING
    )


async def _decoded(response: httpcore.Response, *, most_bytes: int) -> AsyncIterator[bytes]:
    """The content in pieces, decompressed. Raises FetchFailed past `most_bytes`, before or after decompression."""
    too_large = FetchFailed(FetchCode.TOO_LARGE, f"The page is larger than {most_bytes / 1e6:,.0f} MB.")
    declared = _header(response, b"content-length")
    if declared.isdigit() and int(declared) > most_bytes:
        raise too_large
    decoder = _decoder(_header(response, b"content-encoding"))
    received = produced = 0
    try:
        async for piece in response.aiter_stream():
            received += len(piece)
            if received > most_bytes:
                raise too_large
            if decoder is None:
                yield piece
                continue
            waiting = piece
            while waiting:
                out = decoder.decompress(waiting, _PIECE_BYTES)
                produced += len(out)
                if produced > most_bytes:
                    raise too_large
                if out:
                    yield out
                if decoder.eof:
                    break
                waiting = decoder.unconsumed_tail
    except zlib.error:
        raise FetchFailed(FetchCode.BROKEN_ANSWER, "The page can't be decompressed.") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
        raise _failure(error) from None


def _decoder(encoding: str) -> Any:
    """What decompresses a content encoding, None where there is nothing to do. Raises FetchFailed."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return None
    if name in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    raise FetchFailed(FetchCode.BROKEN_ANSWER, "The page is compressed in a way that was not asked for.")


def _header(response: httpcore.Response, name: bytes) -> str:
    value = next((value.strip() for key, value in response.headers if key.lower() == name), b"")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _filename(response: httpcore.Response, url: WebUrl, content_type: str) -> str:
    """A name for the page: the one that the site gives, or the end of its path, with a suffix that fits its type."""
    given = _FILENAME.search(_header(response, b"content-disposition"))
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
