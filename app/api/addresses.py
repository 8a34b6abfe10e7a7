"""The address of a client behind proxies, of which only those that the operator trusts are believed."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from app.core.config import Network


def client_address(peer: str, forwarded_for: Sequence[str], *, trusted: Sequence[Network]) -> str:
    """The nearest address that is no trusted proxy's: what a client writes into the header further left is its own talk.

    `forwarded_for` are the values of X-Forwarded-For in their order. An IPv6 address counts as its /64, which is what
    one customer gets; an IPv4 address in IPv6 clothes as IPv4.
    """
    address = _parse(peer)
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    while hops and address is not None and any(address in network for network in trusted):
        further = _parse(hops.pop())
        if further is None:
            break
        address = further
    return _grouped(address) if address is not None else peer


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether the peer is one of the trusted proxies."""
    address = _parse(peer)
    return address is not None and any(address in network for network in trusted)


@lru_cache(maxsize=4096)
def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _grouped(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address) or address.is_loopback:
        return str(address)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"
