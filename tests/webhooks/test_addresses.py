"""Addresses that no webhook may reach, in all the clothes they come in."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.webhooks.addresses import ForbiddenAddressError, choose, numeric_address, reason_against

FORBIDDEN = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
168.63.129.16 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1
198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::7f00:1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:a9fe:a9fe ::ffff:8.8.8.8 ::ffff:0:127.0.0.1
64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::8.8.8.8 64:ff9b:1::a9fe:a9fe 100::1 100:0:0:1::1
2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:db8::1
2002:7f00:1:: 2002:a9fe:a9fe:: 2002:808:808:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fd12:3456::1
fe80::1 fe80::1%eth0 febf::1 fec0::1 ff02::1 ff0e::1 2a00:1450::5efe:10.0.0.1 2a00:1450::200:5efe:7f00:1 4000::1
""".split()  # noqa: SIM905 - a table reads better
PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0
172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450:4001:82a::200e 2400:cb00::1 3ffe::1
""".split()  # noqa: SIM905 - a table reads better


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        choose([address], [])


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_reached(address: str) -> None:
    assert choose([address], []) == ip_address(address)


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_inside_another_form_is_reached(address: object) -> None:
    number = int(address)  # type: ignore[call-overload]
    wrapped = [number, 0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80]
    teredo = 0x20010000 << 96 | number ^ 0xFFFFFFFF
    assert all(reason_against(ip_address(form.to_bytes(16, "big"))) for form in (*wrapped, teredo))


def test_a_name_with_a_public_and_a_private_address_is_refused_altogether() -> None:
    for resolved in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["8.8.8.8", "::1"]):
        with pytest.raises(ForbiddenAddressError):
            choose(resolved, [])


def test_an_allowed_network_opens_its_addresses_and_no_others() -> None:
    allowed = [ip_network("127.0.0.0/8")]
    assert str(choose(["::1", "127.0.0.1"], allowed)) == "127.0.0.1"
    for address in ("::1", "::ffff:127.0.0.1", "10.0.0.1"):
        with pytest.raises(ForbiddenAddressError):
            choose([address], allowed)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1"])
def test_loopback_is_known_in_every_spelling_that_resolvers_take(host: str) -> None:
    assert str(numeric_address(host)) == "127.0.0.1"


def test_a_name_is_not_a_numeric_address() -> None:
    assert numeric_address("example.com") is None
