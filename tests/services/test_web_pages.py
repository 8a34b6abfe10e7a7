"""Pages of the web: fetched from the internet and from nowhere else."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import httpcore
import pytest

from app.core.addresses import AddressPolicy, is_public
from app.services.web_pages import FetchedPage, PageFetcher
from app.services.web_requests import FetchCode, FetchFailed, FetchLimits

_PUBLIC: Final = "93.184.216.34"
_INTERNAL: Final = """
127.0.0.1 127.8.8.8 0.0.0.0 10.0.0.7 100.64.0.1 169.254.169.254 172.16.0.1 172.31.255.254 192.168.1.1 192.0.0.8 198.18.0.1
224.0.0.1 255.255.255.255 ::1 :: ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe
2002:7f00:1:: 2001:0:7f00:1::1 fe80::1 fe80::1%eth0 fec0::1 fc00::1 fd00:ec2::254 ff02::1 2001:db8::1 2606:4700::5efe:a00:1
""".split()
_REDIRECTS: Final = """
http://127.0.0.1/ http://localhost/ http://2130706433/ http://0x7f.1/ http://0177.0.0.1/ http://[::1]/ http://[::ffff:127.0.0.1]/
http://169.254.169.254/latest/meta-data/ //127.0.0.1/ //[::1]/x http://user@127.0.0.1/ http://inside.example/ https://inside.example/
file:///etc/passwd gopher://127.0.0.1:6379/_INFO ftp://inside.example/ http://public.example:6379/ http://127.1/ http://0/
javascript:alert(1) data:text/html,x http://①②⑦.⓪.⓪.①/ http://public.example@127.0.0.1/ http://metadata.google.internal/
http://127.0.0.1:80:80/ http://[fe80::1%25eth0]/ http://printer/ \\\\127.0.0.1\\x http:\\\\127.0.0.1/
""".split()

Handler = Callable[[str, str], bytes]
"""From host and target to the bytes of the answer."""


def answer(body: bytes = b"", *, status: str = "200 OK", **headers: str) -> bytes:
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    )


class Internet(httpcore.AsyncNetworkBackend):
    """All public addresses lead to one server of the test; every address that was connected to is remembered."""

    def __init__(self, handler: Handler) -> None:
        self.connected: list[str] = []
        self.requests: list[tuple[str, str, str]] = []
        self.names: dict[str, list[Sequence[str]]] = {}
        self._handler = handler
        self._real = httpcore.AnyIOBackend()
        self._port = 0

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """What the script says for the name, the next time the next; literal addresses are themselves."""
        script = self.names.get(host)
        if script:
            return script.pop(0) if len(script) > 1 else script[0]
        try:
            return [str(ip_address(host))]
        except ValueError:
            if host.endswith(".example"):
                return [_PUBLIC]
            raise OSError("no such host") from None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append(host)
        if host == "93.184.216.99":
            raise httpcore.ConnectError
        return await self._real.connect_tcp("127.0.0.1", self._port, timeout)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            target = head.split(" ")[1]
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            self.requests.append((headers["Host"], target, head))
            writer.write(self._handler(headers["Host"], target))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PageFetcher]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        async with server:
            yield PageFetcher(resolve=self.resolve, connections=self)


def pages(**bodies: bytes) -> Handler:
    """A site without robots.txt that answers by the last word of the path."""

    def handle(_: str, target: str) -> bytes:
        name = target.rpartition("/")[2].partition("?")[0].replace(".", "_")
        return bodies.get(name, answer(status="404 Not Found"))

    return handle


async def fetch(handler: Handler, url: str, tmp_path: Path, **limits: Any) -> tuple[FetchedPage, Internet]:
    internet = Internet(handler)
    async with internet.running() as fetcher:
        return await fetcher.fetch(url, into=tmp_path / "page", limits=FetchLimits(**limits)), internet


async def failure(handler: Handler, url: str, tmp_path: Path, **limits: Any) -> tuple[FetchFailed, Internet]:
    internet = Internet(handler)
    async with internet.running() as fetcher:
        with pytest.raises(FetchFailed) as failed:
            await fetcher.fetch(url, into=tmp_path / "page", limits=FetchLimits(**limits))
    assert not (tmp_path / "page").exists()
    assert failed.value.message.endswith(".")
    return failed.value, internet


async def test_a_page_is_fetched_with_its_type_and_a_name(tmp_path: Path) -> None:
    handler = pages(meters=answer(b"<p>5 A</p>", Content_Type="text/html; charset=utf-8"))
    page, internet = await fetch(handler, "http://public.example/docs/meters?x=1", tmp_path)
    assert page.path.read_bytes() == b"<p>5 A</p>"
    assert page.content_type == "text/html; charset=utf-8"
    assert page.final_url == "http://public.example/docs/meters?x=1"
    assert (page.filename, page.size_bytes) == ("meters.html", 10)
    assert internet.connected == [_PUBLIC, _PUBLIC]
    request = internet.requests[-1][2]
    assert "User-Agent: Ibid/" in request
    assert "Cookie" not in request
    assert "Authorization" not in request


@pytest.mark.parametrize("address", _INTERNAL)
async def test_a_name_with_an_internal_address_is_never_connected_to(tmp_path: Path, address: str) -> None:
    internet = Internet(pages())
    internet.names["inside.example"] = [[address]]
    internet.names["mixed.example"] = [[_PUBLIC, address]]
    async with internet.running() as fetcher:
        for host in ("inside.example", "mixed.example"):
            with pytest.raises(FetchFailed) as failed:
                await fetcher.fetch(f"http://{host}/", into=tmp_path / "page")
            assert failed.value.code is FetchCode.UNSAFE_URL
    assert internet.connected == []


@pytest.mark.parametrize("location", _REDIRECTS)
@pytest.mark.parametrize("status", ["301 Moved", "307 Temporary Redirect"])
async def test_no_redirect_leads_inside(tmp_path: Path, location: str, status: str) -> None:
    handler = pages(start=answer(status=status, Location=location.encode().decode("latin-1")))
    internet = Internet(handler)
    internet.names["inside.example"] = [["10.0.0.7"]]
    async with internet.running() as fetcher:
        with pytest.raises(FetchFailed):
            await fetcher.fetch("http://public.example/start", into=tmp_path / "page")
    assert all(is_public(ip_address(address)) for address in internet.connected)
    assert {target for _, target, _ in internet.requests} <= {
        "/robots.txt",
        "/start",
        "/127.0.0.1/x",
        "/%5C127.0.0.1",
    }


async def test_a_name_that_changes_its_address_is_checked_each_time(tmp_path: Path) -> None:
    internet = Internet(pages(start=answer(status="302 Found", Location="/next"), next=answer(b"inside")))
    internet.names["rebinding.example"] = [[_PUBLIC], [_PUBLIC], ["127.0.0.1"]]
    async with internet.running() as fetcher:
        with pytest.raises(FetchFailed) as failed:
            await fetcher.fetch("http://rebinding.example/start", into=tmp_path / "page")
    assert failed.value.code is FetchCode.UNSAFE_URL
    assert set(internet.connected) == {_PUBLIC}


async def test_the_address_that_was_checked_is_the_one_connected_to(tmp_path: Path) -> None:
    internet = Internet(pages(a=answer(b"public")))
    asked: list[str] = []
    resolve = internet.resolve

    async def turning(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return await resolve(host, port)

    internet.names["rebinding.example"] = [[_PUBLIC], [_PUBLIC], ["127.0.0.1"]]
    async with internet.running():
        fetcher = PageFetcher(resolve=turning, connections=internet)
        await fetcher.fetch("http://rebinding.example/a", into=tmp_path / "page")
    assert len(asked) == len(internet.connected) == 2
    assert set(internet.connected) == {_PUBLIC}


async def test_robots_txt_cannot_lead_inside_either(tmp_path: Path) -> None:
    handler = pages(
        robots_txt=answer(status="301 Moved", Location="http://127.0.0.1/robots.txt"), a=answer(b"x")
    )
    failed, internet = await failure(handler, "http://public.example/a", tmp_path)
    assert failed.code is FetchCode.UNSAFE_URL
    assert set(internet.connected) == {_PUBLIC}


async def test_a_second_address_is_tried_when_the_first_does_not_answer(tmp_path: Path) -> None:
    internet = Internet(pages(a=answer(b"x")))
    internet.names["two.example"] = [["93.184.216.99", _PUBLIC]]
    async with internet.running() as fetcher:
        await fetcher.fetch("http://two.example/a", into=tmp_path / "page")
    assert internet.connected == ["93.184.216.99", _PUBLIC] * 2


async def test_redirects_are_followed_and_counted(tmp_path: Path) -> None:
    handler = pages(
        one=answer(status="301 Moved", Location="two"),
        two=answer(status="302 Found", Location="http://other.example/three"),
        three=answer(b"there"),
        loop=answer(status="302 Found", Location="/loop"),
        nowhere=answer(status="302 Found"),
    )
    page, _ = await fetch(handler, "http://public.example/a/one", tmp_path)
    assert page.final_url == "http://other.example/three"
    assert (await failure(handler, "http://public.example/loop", tmp_path))[
        0
    ].code is FetchCode.TOO_MANY_REDIRECTS
    assert (await failure(handler, "http://public.example/nowhere", tmp_path))[
        0
    ].code is FetchCode.BROKEN_ANSWER


async def test_robots_txt_is_honoured_and_asked_for_once(tmp_path: Path) -> None:
    rules = b"User-agent: *\nDisallow: /private/\n\nUser-agent: Ibid\nDisallow: /not-for-ibid\n"
    handler = pages(robots_txt=answer(rules), a=answer(b"a"), not_for_ibid=answer(b"b"))
    internet = Internet(handler)
    async with internet.running() as fetcher:
        for _ in range(3):
            await fetcher.fetch("http://public.example/a", into=tmp_path / "page")
        with pytest.raises(FetchFailed) as failed:
            await fetcher.fetch("http://public.example/not-for-ibid", into=tmp_path / "page")
        assert failed.value.code is FetchCode.FORBIDDEN_BY_ROBOTS
        assert not failed.value.retryable
        careless = FetchLimits(honour_robots=False)
        await fetcher.fetch("http://public.example/private/a", into=tmp_path / "page", limits=careless)
    assert [target for _, target, _ in internet.requests].count("/robots.txt") == 1


async def test_a_site_whose_robots_txt_fails_is_tried_later(tmp_path: Path) -> None:
    handler = pages(robots_txt=answer(status="503 Busy"), a=answer(b"a"))
    failed, _ = await failure(handler, "http://public.example/a", tmp_path)
    assert failed.retryable


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        ("404 Not Found", FetchCode.NOT_FOUND, False),
        ("410 Gone", FetchCode.NOT_FOUND, False),
        ("403 Forbidden", FetchCode.REFUSED, False),
        ("401 Unauthorized", FetchCode.REFUSED, False),
        ("429 Too Many Requests", FetchCode.REFUSED, True),
        ("500 Internal Server Error", FetchCode.REFUSED, True),
        ("204 No Content", FetchCode.REFUSED, False),
    ],
)
async def test_a_page_that_is_none_fails_by_its_status(
    tmp_path: Path, status: str, code: FetchCode, *, retryable: bool
) -> None:
    failed, _ = await failure(pages(a=answer(status=status)), "http://public.example/a", tmp_path)
    assert (failed.code, failed.retryable) == (code, retryable)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_pages_are_read_and_bombs_are_cut(tmp_path: Path, encoding: str) -> None:
    compress = gzip.compress if encoding == "gzip" else zlib.compress
    handler = pages(
        a=answer(compress(b"x" * 100_000), Content_Encoding=encoding),
        bomb=answer(compress(b"\0" * 50_000_000), Content_Encoding=encoding),
        broken=answer(b"no such thing", Content_Encoding=encoding),
    )
    page, _ = await fetch(handler, "http://public.example/a", tmp_path, size_bytes=1_000_000)
    assert page.size_bytes == 100_000
    failed, _ = await failure(handler, "http://public.example/bomb", tmp_path, size_bytes=1_000_000)
    assert failed.code is FetchCode.TOO_LARGE
    failed, _ = await failure(handler, "http://public.example/broken", tmp_path)
    assert failed.code is FetchCode.BROKEN_ANSWER


async def test_a_page_that_is_too_large_is_cut_whether_it_says_so_or_not(tmp_path: Path) -> None:
    endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 3_000_000
    handler = pages(a=answer(b"x" * 3_000_000), endless=endless)
    for name in ("a", "endless"):
        failed, _ = await failure(handler, f"http://public.example/{name}", tmp_path, size_bytes=1_000_000)
        assert failed.code is FetchCode.TOO_LARGE


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        b"",
    ],
)
async def test_an_answer_that_is_no_http_is_a_failure(tmp_path: Path, raw: bytes) -> None:
    failed, _ = await failure(pages(a=raw), "http://public.example/a", tmp_path)
    assert failed.code in (FetchCode.BROKEN_ANSWER, FetchCode.UNREACHABLE)


async def test_a_host_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fetcher = PageFetcher(AddressPolicy((ip_network("127.0.0.0/8"),)))
    with pytest.raises(FetchFailed) as failed:
        await fetcher.fetch(
            f"http://127.0.0.1:{port}/", into=tmp_path / "page", limits=FetchLimits(seconds=0.5)
        )
    assert (failed.value.code, failed.value.retryable) == (FetchCode.TIMED_OUT, True)
    server.close()


async def test_a_network_that_the_operator_allows_is_reached(tmp_path: Path) -> None:
    internet = Internet(pages(a=answer(b"intranet")))
    async with internet.running():
        port = internet._port
        fetcher = PageFetcher(AddressPolicy((ip_network("127.0.0.0/8"),)))
        page = await fetcher.fetch(f"http://127.0.0.1:{port}/a", into=tmp_path / "page")
        assert page.path.read_bytes() == b"intranet"
        with pytest.raises(FetchFailed) as failed:
            await PageFetcher().fetch(f"http://127.0.0.1:{port}/a", into=tmp_path / "page")
        assert failed.value.code is FetchCode.UNSAFE_URL


async def test_proxies_of_the_environment_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://10.0.0.1:3128")
    _, internet = await fetch(pages(a=answer(b"x")), "http://public.example/a", tmp_path)
    assert set(internet.connected) == {_PUBLIC}


@pytest.mark.parametrize(
    ("url", "headers", "name"),
    [
        ("http://public.example/", {"Content_Type": "text/html"}, "public.example.html"),
        ("http://public.example/a/paper.pdf", {"Content_Type": "application/pdf"}, "paper.pdf"),
        ("http://public.example/paper", {"Content_Type": "application/pdf"}, "paper.pdf"),
        ("http://public.example/a.php", {"Content_Type": "text/html"}, "a.php.html"),
        (
            "http://public.example/x",
            {"Content_Disposition": 'attachment; filename="../../etc/passwd"', "Content_Type": "text/plain"},
            "passwd.txt",
        ),
    ],
)
async def test_the_name_of_a_page_is_only_a_name(
    tmp_path: Path, url: str, headers: dict[str, str], name: str
) -> None:
    def handler(_: str, target: str) -> bytes:
        return answer(status="404 Not Found") if target == "/robots.txt" else answer(b"x", **headers)

    page, _ = await fetch(handler, url, tmp_path)
    assert page.filename == name
