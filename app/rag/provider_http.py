"""HTTP to model providers: one pool of connections a process, requests with a JSON body, answers whole or as they come.

On aiohttp, whose request costs 0.2 ms of CPU where httpx's costs 0.85; a chat turn makes two.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Final, Protocol, Self

import aiohttp

from app.rag.circuits import Circuits

_MOST_CONNECTIONS: Final = 1_000


class ProviderConnectionError(Exception):
    """No answer, or not all of it. The text is a kind of failure, never the provider's words."""


class ProviderTimeoutError(ProviderConnectionError):
    """The provider took longer than it may to connect, or to send the next bytes."""


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
    """A ProviderClient over the network: open it with `async with`. Follows no redirects, keeps no cookies."""

    def __init__(
        self,
        *,
        connect_timeout_seconds: float,
        read_timeout_seconds: float,
        circuits: Circuits | None = None,
    ) -> None:
        self.circuits = circuits or Circuits()
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_timeout_seconds, sock_read=read_timeout_seconds
        )
        self._session: aiohttp.ClientSession | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_MOST_CONNECTIONS),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        try:
            async with self._open.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return Reply(response.status, _lowered(response.headers), await response.read())
        except (aiohttp.ClientError, OSError) as error:  # asyncio's TimeoutError is an OSError
            raise _translated(error) from error

    async def stream(self, url: str, body: bytes, headers: Mapping[str, str]) -> Stream:
        try:
            return _OpenStream(await self._open.post(url, data=body, headers=headers, allow_redirects=False))
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error

    @property
    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "the client is not open"
        return self._session


class _OpenStream:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

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
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error

    async def aclose(self) -> None:
        """Close the connection unless the whole body was read: whoever stops reading stops the provider."""
        self._response.close()


def _lowered(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _translated(error: Exception) -> ProviderConnectionError:
    kind = ProviderTimeoutError if isinstance(error, TimeoutError) else ProviderConnectionError
    return kind(type(error).__name__)
