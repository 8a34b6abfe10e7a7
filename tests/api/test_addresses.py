"""Where a request comes from, whatever it says itself."""

import pytest

from app.api.addresses import client_address
from app.core.config import Settings
from tests.fixtures.service import make_settings


@pytest.mark.parametrize(
    ("peer", "header", "trusted", "expected"),
    [
        ("203.0.113.9", ["198.51.100.1"], "", "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1"], "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1, 10.0.0.2"], "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.0/8", "10.0.0.3"),
        ("203.0.113.9", ["10.0.0.1"], "10.0.0.0/8", "203.0.113.9"),
        ("10.0.0.1", ["<script>"], "10.0.0.0/8", "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.0/8", "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.0/8", "10.0.0.1"),
        ("::1", ["2001:db8:1:2:3:4:5:6"], "::1", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", [], "", "203.0.113.9"),
        ("2001:db8::1%eth0", [], "", "2001:db8::/64"),
        ("", [], "", ""),
        ("testclient", [], "", "testclient"),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, header: list[str], trusted: str, expected: str) -> None:
    networks = make_settings(trusted_proxies=trusted).trusted_networks

    assert client_address(peer, header, trusted=networks) == expected


@pytest.mark.parametrize("value", ["10.0.0.0/33", "proxy.example.com", "10.0.0.1;10.0.0.2"])
def test_a_setting_that_is_no_list_of_networks_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="trusted_proxies"):
        Settings.model_validate({"trusted_proxies": value})
