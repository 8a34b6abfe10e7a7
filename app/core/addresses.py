"""Which addresses of the network the server may be sent to by somebody else, and how such an address has to be written.

For pages that users ask to ingest and for the base URLs of providers that admins enter: whoever names a URL must not reach the
server's own network with it.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import quote, urlsplit

from app.core.errors import Invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PORTS: Final = {"http": 80, "https": 443}
_URL_CHARACTERS: Final = 2_000
_CONTROL_OR_BLANK: Final = re.compile(r"[\x00-\x20\x7f\\]")
_BRACKETED: Final = re.compile(r"\[[0-9a-fA-F:.]+\](?::\d{1,5})?")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")
_LOCAL_NAMES: Final = (
    "localhost",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "home.arpa",
    "localdomain",
)

# What IANA's registries of special addresses list, and the forms that carry an IPv4 address in an IPv6 one: Python's `is_global`
# leaves out some of both, differently in each version.
_NOT_PUBLIC: Final = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24"
        " 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3"
        " ::/8 64:ff9b::/96 64:ff9b:1::/48 100::/16 200::/7 2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20"
        " 4000::/2 8000::/1"
    ).split()
)
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


class UnsafeUrl(Invalid):
    """This URL can't be used: it must be http or https, with the name of a public host, without user name and other ports."""


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Where the server may go: to public addresses on the ports of the web, and to what the operator allows, on any port."""

    allowed: tuple[Network, ...] = ()

    def allows(self, address: Address | str, *, port: int) -> bool:
        """Whether a connection to this address may be made; for a name, each address that it has is asked about."""
        try:
            parsed = ip_address(address) if isinstance(address, str) else address
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address):
            if parsed.scope_id is not None:
                return False
            parsed = parsed.ipv4_mapped or parsed
        if any(parsed.version == network.version and parsed in network for network in self.allowed):
            return True
        return port in PORTS.values() and is_public(parsed)


def is_address(host: str) -> bool:
    """Whether a host is written as an address and not as a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet, and no other way to write one that is not."""
    if isinstance(address, IPv6Address):
        if address not in _PUBLIC_V6 or address.scope_id is not None:
            return False
        if int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
            return False
    return not any(address.version == network.version and address in network for network in _NOT_PUBLIC)


@dataclass(frozen=True, slots=True)
class WebUrl:
    """A URL in its plainest form: what is checked is what is connected to."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query, percent-encoded."""

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            f"{self.scheme}://{host}"
            if self.port == PORTS[self.scheme]
            else f"{self.scheme}://{host}:{self.port}"
        )

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"


def parse_url(url: str, *, allowed: Collection[Network] = ()) -> WebUrl:
    """The parts of a URL that may be fetched, as far as that can be told before its name is resolved. Raises UnsafeUrl.

    Only one reading is accepted: hosts that some programs take for a number (`0x7f.1`, `2130706433`, `127.1`), blanks, control
    characters and backslashes are refused, not guessed at. `allowed` are networks of the operator's choice.
    """
    url = url.strip(" ")
    if len(url) > _URL_CHARACTERS:
        raise UnsafeUrl(f"The URL is longer than {_URL_CHARACTERS:,} characters.")
    if _CONTROL_OR_BLANK.search(url):
        raise UnsafeUrl("There are blanks, backslashes or control characters in the URL.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UnsafeUrl("The URL is not a valid one.") from None
    if parts.scheme not in PORTS:
        raise UnsafeUrl("Only http:// and https:// URLs can be used.")
    if "@" in parts.netloc:
        raise UnsafeUrl("The URL may not have a user name or password.")
    if parts.netloc.endswith(":"):
        raise UnsafeUrl("The port of the URL is missing.")
    if parts.netloc.startswith("[") and not _BRACKETED.fullmatch(parts.netloc):
        raise UnsafeUrl("The host of the URL is not a valid name.")
    host = _host(parts.hostname or "", bracketed=parts.netloc.startswith("["), allowed=allowed)
    port = PORTS[parts.scheme] if port is None else port
    if port not in PORTS.values() and not allowed:
        raise UnsafeUrl("Only the ports 80 and 443 can be used.")
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (
        f"?{quote(parts.query, safe=_QUERY)}" if parts.query else ""
    )
    return WebUrl(parts.scheme, host, port, target)


_QUERY: Final = "/%:@!$&'()*+,;=~-._?[]{}|^`\"<>"


def _host(written: str, *, bracketed: bool, allowed: Collection[Network]) -> str:
    """The host in ASCII and lower case. Raises UnsafeUrl."""
    if bracketed:
        return _literal(written, allowed)
    host = (written.lower() if written.isascii() else _in_ascii(written)).removesuffix(".")
    labels = host.split(".")
    if not host or len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UnsafeUrl("The host of the URL is not a valid name.")
    if _NUMBER.fullmatch(labels[-1]):
        return _literal(host, allowed)
    local = any(host == name or host.endswith(f".{name}") for name in _LOCAL_NAMES) or len(labels) == 1
    if local and not allowed:
        raise UnsafeUrl("The host of the URL is a name of the local network.")
    return host


def _in_ascii(name: str) -> str:
    """As browsers map it: full-width and circled digits become digits here, and are looked at like others. Raises UnsafeUrl."""
    # Loaded for names that need its tables.
    import idna

    try:
        return idna.encode(name, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise UnsafeUrl("The host of the URL is not a valid name.") from None


def _literal(host: str, allowed: Collection[Network]) -> str:
    """An address in the one form that everybody reads alike. Raises UnsafeUrl."""
    try:
        address = ip_address(host)
    except ValueError:
        raise UnsafeUrl("The host of the URL looks like an address but is not written as one.") from None
    if not AddressPolicy(tuple(allowed)).allows(address, port=443):
        raise UnsafeUrl("The address of the URL is not a public one.")
    return str(address)
