"""HTTP to model providers: one pool of connections a process, requests with a JSON body, answers whole or as they come.

On aiohttp, whose request costs 0.2 ms of CPU where httpx's costs 0.85; a chat turn makes two.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Final, Protocol, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from app.core.addresses import PORTS, AddressPolicy, is_address
from app.rag.circuits import Circuits

_MOST_CONNECTIONS: Final = 1_000
_ENDING_SECONDS: Final = 2.0
_ENDING_BYTES: Final = 4_096
_MOST_ENDINGS: Final = 100
"""Of streams whose last event was read: the end of the body is a packet of its own, and often just behind."""
_MOST_BYTES: Final = 64 * 1024 * 1024
"""Of a whole answer: eight times what the vectors of a full request take."""


class ProviderConnectionError(Exception):
    """No answer, or not all of it. The text is a kind of failure, never the provider's words."""


class ProviderTimeoutError(ProviderConnectionError):
    """The provider took longer than it may to connect, or to send the next bytes."""


class ProviderAddressError(ProviderConnectionError):
    """The address is not one where whoever has entered it may send the server."""


class ProviderCertificateError(ProviderConnectionError):
    """The provider's certificate is not valid for its address, or it speaks no TLS."""


class ProviderSizeError(ProviderConnectionError):
    """The answer is larger than any that could be one."""


class ProviderNameError(ProviderConnectionError):
    """There is no host of the provider's name."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; the names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_ok(self) -> bool:
        return self.status == HTTPStatus.OK


class Stream(Protocol):
    """An answer whose body comes in pieces. Close it, read or not."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises ProviderConnectionError."""

    def let_end(self) -> None:
        """All that was wanted was read: where the body ends by itself now, its connection is kept for the next request."""

    async def aclose(self) -> None: ...


class ProviderClient(Protocol):
    """What sends requests; all raise ProviderConnectionError."""

    @property
    def circuits(self) -> Circuits:
        """Which of the providers are not asked just now."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """The whole answer."""

    async def stream(self, url: str, body: bytes, headers: Mapping[str, str]) -> Stream:
        """The answer once its head is there."""


class HttpClient:
    """A ProviderClient over the network: open it with `async with`. Follows no redirects, keeps no cookies.

    With a policy, it connects to the addresses that the policy allows and to no others, whatever a name resolves to.
    """

    def __init__(
        self,
        *,
        connect_timeout_seconds: float,
        read_timeout_seconds: float,
        policy: AddressPolicy | None = None,
        resolver: AbstractResolver | None = None,
        circuits: Circuits | None = None,
        pause_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`pause_seconds` says how long a stream is left alone after each of its pieces, so that more comes at once."""
        self._pause_seconds = pause_seconds
        self._policy = policy
        self._resolver = resolver
        self.circuits = circuits or Circuits()
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_timeout_seconds, sock_read=read_timeout_seconds
        )
        self._session: aiohttp.ClientSession | None = None
        self._endings: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_MOST_CONNECTIONS, resolver=self._checking_resolver()),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for ending in self._endings:
            ending.cancel()
        await self._stack.aclose()

    def _checking_resolver(self) -> AbstractResolver | None:
        if self._policy is None:
            return self._resolver
        return _CheckedResolver(self._policy, self._resolver or aiohttp.ThreadedResolver())

    def _check_literal(self, url: str) -> None:
        """What is written as an address is not resolved. Raises ProviderAddressError."""
        if self._policy is None:
            return
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
        if is_address(host) and not self._policy.allows(host, port=port):
            raise ProviderAddressError("address not allowed")

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        self._check_literal(url)
        try:
            async with self._open.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return Reply(response.status, _lowered(response.headers), await _content(response))
        except (aiohttp.ClientError, OSError) as error:  # asyncio's TimeoutError is an OSError
            raise _translated(error) from error

    async def stream(self, url: str, body: bytes, headers: Mapping[str, str]) -> Stream:
        self._check_literal(url)
        try:
            response = await self._open.post(url, data=body, headers=headers, allow_redirects=False)
            return _OpenStream(response, self._pause_seconds, self._endings)
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error

    @property
    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "the client is not open"
        return self._session


class _OpenStream:
    def __init__(
        self,
        response: aiohttp.ClientResponse,
        pause_seconds: Callable[[], float],
        endings: set[asyncio.Task[None]],
    ) -> None:
        """`endings` holds the tasks that read what is left of a body."""
        self._response = response
        self._pause_seconds = pause_seconds
        self._endings = endings
        self._is_ending = False

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return _lowered(self._response.headers)

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.content.iter_any():
                yield piece
                if (pause := self._pause_seconds()) and not self._response.content.at_eof():
                    await self._leave_alone(pause)
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error

    async def _leave_alone(self, seconds: float) -> None:
        """Let what comes gather in the kernel: waking up for each packet of very many streams is most of what they cost."""
        connection = self._response.connection
        transport = connection.transport if connection is not None else None
        if transport is None or transport.is_closing():
            return
        transport.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            if not transport.is_closing():
                transport.resume_reading()

    def let_end(self) -> None:
        if self._response.content.is_eof() or len(self._endings) >= _MOST_ENDINGS:
            return
        self._is_ending = True
        ending = asyncio.create_task(self._end(), name="provider stream ending")
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(_ENDING_SECONDS):
                if not await self._response.content.read(_ENDING_BYTES):
                    return
        except (aiohttp.ClientError, OSError):
            pass
        finally:
            self._response.close()

    async def aclose(self) -> None:
        """Close the connection unless the whole body was read: whoever stops reading stops the provider."""
        if not self._is_ending:
            self._response.close()


async def _content(response: aiohttp.ClientResponse) -> bytes:
    """Raises ProviderSizeError."""
    pieces: list[bytes] = []
    size_bytes = 0
    async for piece in response.content.iter_any():
        size_bytes += len(piece)
        if size_bytes > _MOST_BYTES:
            raise ProviderSizeError("too large")
        pieces.append(piece)
    return b"".join(pieces)


def _lowered(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class _AddressNotAllowed(OSError):
    pass


class _CheckedResolver(AbstractResolver):
    """Every address of a name must be allowed; those that were checked are those that are connected to."""

    def __init__(self, policy: AddressPolicy, resolver: AbstractResolver) -> None:
        self._policy = policy
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not all(self._policy.allows(address["host"], port=port) for address in found):
            raise _AddressNotAllowed
        return found

    async def close(self) -> None:
        await self._resolver.close()


def _translated(error: Exception) -> ProviderConnectionError:
    cause = getattr(error, "os_error", None)
    kind = ProviderConnectionError
    if isinstance(error, TimeoutError):
        kind = ProviderTimeoutError
    elif isinstance(cause, _AddressNotAllowed):
        kind = ProviderAddressError
    elif isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch):
        kind = ProviderCertificateError
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        kind = ProviderNameError
    return kind(type(error).__name__)
