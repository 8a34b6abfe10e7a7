"""Single HTTP requests to addresses that have been checked: no names at connecting, no proxy, no cookies, bounded answers."""

import asyncio
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final

import httpcore
import httpx

from app import __version__
from app.core.addresses import AddressPolicy, WebUrl

AGENT: Final = "Ibid"
USER_AGENT: Final = f"{AGENT}/{__version__} (fetches single pages that a user asks for)"
_PIECE_BYTES: Final = 1 << 16
_ADDRESSES_TRIED: Final = 4

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


async def resolve_name(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, in the order in which the system wants them tried."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class CheckedBackend(httpcore.AsyncNetworkBackend):
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


class Exchange:
    """One request and its answer, on a connection of its own."""

    def __init__(self, url: WebUrl, backend: CheckedBackend, limits: FetchLimits) -> None:
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


async def decoded(response: httpcore.Response, *, most_bytes: int) -> AsyncIterator[bytes]:
    """The content in pieces, decompressed. Raises FetchFailed past `most_bytes`, before or after decompression."""
    too_large = FetchFailed(FetchCode.TOO_LARGE, f"The page is larger than {most_bytes / 1e6:,.0f} MB.")
    declared = header(response, b"content-length")
    if declared.isdigit() and int(declared) > most_bytes:
        raise too_large
    decoder = _decoder(header(response, b"content-encoding"))
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


def header(response: httpcore.Response, name: bytes) -> str:
    value = next((value.strip() for key, value in response.headers if key.lower() == name), b"")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
