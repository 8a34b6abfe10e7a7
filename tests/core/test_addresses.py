"""Which addresses are public, in every way to write them."""

from ipaddress import ip_address, ip_network

import pytest

from app.core.addresses import AddressPolicy, UnsafeUrl, is_public, parse_url

_INTERNAL = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1
172.31.255.255 192.0.0.1 192.0.0.8 192.0.2.1 192.88.99.1 192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.1
203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::7f00:1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1
64:ff9b::10.0.0.1 64:ff9b::8.8.8.8 64:ff9b:1::1 100::1 2001::1 2001:0:7f00:1::1 2001:db8::1 2001:10::1 2001:20::1 2002:7f00:1::
2002:a00:1::1 2002:808:808::1 3fff::1 5f00::1 fc00::1 fd00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 febf::1 fec0::1 feff::1
ff02::1 ff0e::1 2606:4700::5efe:127.0.0.1 2606:4700::200:5efe:10.0.0.1 4000::1 8000::1 e000::1
""".split()
_PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 172.15.255.255 172.32.0.0
192.0.1.1 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 2606:4700::1111 2a00:1450:4001::200e
2400:cb00::1 ::ffff:8.8.8.8
""".split()
_UNSAFE = r"""
ftp://example.com/ file:///etc/passwd gopher://example.com:80/ javascript:alert(1) data:text/html,x //example.com /etc/passwd
example.com http:// http:/// http://?x http://#x http://:80/ http://user@example.com/ http://user:pass@example.com/
http://example.com@127.0.0.1/ http://127.0.0.1\@example.com/ http://example.com\.evil.com/ http://example.com:22/
http://example.com:8080/ http://example.com:65536/ http://example.com:-1/ http://example.com:/ http://example.com:80:80/
http://127.0.0.1/ http://127.1/ http://127.0.1/ http://2130706433/ http://0x7f000001/ http://0x7f.0x0.0x0.0x1/
http://0177.0.0.1/ http://017700000001/ http://0/ http://00000000/ http://127.0.0.1./ http://127.000.000.001/
http://0xA9.0xFE.0xA9.0xFE/ http://425.510.425.510/ http://169.254.169.254/latest/meta-data/ http://2852039166/
http://0xa9fea9fe/ http://0251.0376.0251.0376/ http://0x/ http://1e3/ http://1.1.1/ http://256.256.256.256/ http://1.2.3.4.5/
http://[::1]/ http://[::]/ http://[0:0:0:0:0:0:0:1]/ http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/ http://[::127.0.0.1]/
http://[64:ff9b::7f00:1]/ http://[2002:7f00:1::]/ http://[fe80::1%25eth0]/ http://[fe80::1]/ http://[fec0::1]/ http://[fd00::1]/
http://[ff02::1]/ http://[::1]example.com/ http://[::1/ http://::1/ http://[2606:4700::1111%25lo]/ http://[example.com]/
http://[v1.x]/ http://[]/ http://localhost/ http://LOCALHOST/ http://localhost./ http://a.localhost/ http://metadata/
http://metadata.google.internal/ http://router.lan/ http://printer.local/ http://nas.home.arpa/ http://intranet.corp/
http://①②⑦.⓪.⓪.①/ http://127。0。0。1/ http://１２７.０.０.１/ http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/ http://localhost。/ http://0x7f。1/ http://٣.٣.٣.٣/
http://exa%6dple.com/ http://127.0.0.1%00.example.com/ http://example.com%2f@127.0.0.1/ http://-example.com/ http://exam_ple-.com/
http://example..com/ http://.example.com/ http://*.example.com/ http://example.com,127.0.0.1/ http://exa$mple.com/
http://a.example.com;127.0.0.1/ http://(127.0.0.1)/ http://127.0.0.1,example.com/ http://127.0.0.1:80@example.com:80/
http://𝟭𝟮𝟳.𝟬.𝟬.𝟭/ http://127.0.0.1%2eexample.com/ http://xn--/ http://0x7f.1/ http://0300.0250.0.1/ http://3232235521/
""".split()
_BLANKS = [
    "http://exam ple.com/",
    "http://example.com/a b",
    "http://127.0.0.1\t.example.com/",
    "ht\ntp://127.0.0.1/",
    "http://example.com\r\nHost: x/",
    "http://example.com/\x00",
    "http://exa\u00admple.com:22/",
    "http://" + "a" * 70 + ".com/",
    "http://example.com/" + "a" * 3_000,
]


@pytest.mark.parametrize("address", _INTERNAL)
def test_internal_addresses_are_refused_in_every_form(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not AddressPolicy().allows(address, port=80)


@pytest.mark.parametrize("address", _PUBLIC)
def test_public_addresses_are_allowed_on_the_ports_of_the_web(address: str) -> None:
    policy = AddressPolicy()
    assert policy.allows(address, port=80)
    assert policy.allows(address, port=443)
    assert not policy.allows(address, port=22)


def test_the_operator_may_allow_networks_on_any_port() -> None:
    policy = AddressPolicy((ip_network("10.1.0.0/16"), ip_network("fd00::/8")))
    assert policy.allows("10.1.2.3", port=8080)
    assert policy.allows("::ffff:10.1.2.3", port=8080)
    assert policy.allows("fd12::1", port=80)
    assert not policy.allows("10.2.0.1", port=80)
    assert not policy.allows("8.8.8.8", port=8080)
    assert not policy.allows("no address", port=80)


def test_there_are_more_than_a_hundred_hostile_urls() -> None:
    assert len(set(_UNSAFE + _BLANKS)) >= 100


@pytest.mark.parametrize("url", _UNSAFE + _BLANKS)
def test_hostile_urls_are_refused_before_anything_is_resolved(url: str) -> None:
    with pytest.raises(UnsafeUrl) as refused:
        parse_url(url)
    assert refused.value.message.endswith(".")


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTPS://Example.COM:443/Path?Q=1#part", "https://example.com/Path?Q=1"),
        ("https://example.com:80/", "https://example.com:80/"),
        ("http://münchen.example/straße?ort=köln", "http://xn--mnchen-3ya.example/stra%C3%9Fe?ort=k%C3%B6ln"),
        ("http://example.com/a%20b/%E4", "http://example.com/a%20b/%E4"),
        ("http://8.8.8.8/", "http://8.8.8.8/"),
        ("http://[2606:4700:0::1111]/x", "http://[2606:4700::1111]/x"),
        ("http://example.com./", "http://example.com/"),
        ("http://_dmarc.example.com/", "http://_dmarc.example.com/"),
        ("  https://example.com/a  ", "https://example.com/a"),
    ],
)
def test_a_url_has_one_plain_form(url: str, plain: str) -> None:
    assert str(parse_url(url)) == plain
    assert str(parse_url(plain)) == plain
