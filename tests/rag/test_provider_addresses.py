"""Where the client of providers connects: to addresses that were checked, whatever a name resolves to."""

import socket
from ipaddress import ip_network

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from app.core.addresses import AddressPolicy
from app.rag.provider_http import (
    HttpClient,
    ProviderAddressError,
    ProviderCertificateError,
    ProviderConnectionError,
    ProviderNameError,
)
from tests.fixtures.provider import ScriptedProvider


class Names(AbstractResolver):
    """Resolves every name to these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if not self.addresses:
            raise OSError("no such name")
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST
            )
            for address in self.addresses
        ]  # fmt: skip

    async def close(self) -> None:
        return None


def client(policy: AddressPolicy | None, *addresses: str) -> HttpClient:
    return HttpClient(
        connect_timeout_seconds=2, read_timeout_seconds=2, policy=policy, resolver=Names(*addresses)
    )


PUBLIC_ONLY = AddressPolicy()
LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))


@pytest.mark.parametrize(
    "addresses",
    [("127.0.0.1",), ("10.0.0.1",), ("169.254.169.254",), ("93.184.216.34", "192.168.0.1"), ("::ffff:127.0.0.1",)],
)  # fmt: skip
async def test_a_name_that_resolves_into_the_own_network_is_not_connected_to(
    addresses: tuple[str, ...],
) -> None:
    async with client(PUBLIC_ONLY, *addresses) as http:
        for send in (http.post, http.stream):
            with pytest.raises(ProviderAddressError):
                await send(
                    "http://llm.example.com/v1/chat/completions", b"{}", {"Authorization": "Bearer key"}
                )


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "169.254.169.254", "127.0.0.1:80", "93.184.216.34:22"]
)
async def test_a_written_address_of_the_own_network_is_not_connected_to(host: str) -> None:
    async with client(PUBLIC_ONLY) as http:
        for send in (http.post, http.stream):
            with pytest.raises(ProviderAddressError):
                await send(f"http://{host}/v1", b"{}", {})


async def test_what_the_operator_allows_is_connected_to(provider: ScriptedProvider) -> None:
    port = provider.url.split(":")[2].removesuffix("/v1")
    async with client(LOOPBACK, "127.0.0.1") as named, client(LOOPBACK) as written:
        by_name = await named.post(f"http://llm.example.com:{port}/v1/chat/completions", b'{"x": 1}', {})
        by_address = await written.post(f"{provider.url}/chat/completions", b'{"x": 1}', {})

    assert (by_name.status, by_address.status) == (200, 200)


async def test_failures_to_connect_are_told_apart(provider: ScriptedProvider) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    async with client(LOOPBACK) as http:
        with pytest.raises(ProviderNameError):
            await http.post("http://llm.example.com", b"{}", {})
        with pytest.raises(ProviderCertificateError):
            await http.post(provider.url.replace("http:", "https:"), b"{}", {})
        with pytest.raises(ProviderConnectionError) as refused:
            await http.post(nobody, b"{}", {})

    assert type(refused.value) is ProviderConnectionError
