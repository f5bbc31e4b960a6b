from __future__ import annotations

import ipaddress

import pytest

from boathouse.apps.transfers.reach import Reach
from boathouse.errors import InputError

ELEMENTS = ("127.0.1.11:8443", "127.1.1.11:8444")


def check(reach: Reach, *urls: str) -> None:
    reach.check_hosts(reach.unknown(urls))


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:8443/f",
        "https://localhost/f",
        "https://10.1.2.3/f",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/f",
        "https://[::1]:8443/f",
        "https://[::ffff:10.1.2.3]/f",
        "https://[64:ff9b::a01:203]/f",
        "https://[fec0::1]/f",
        "https://224.0.0.1/f",
        "https://[ff0e::1]/f",
        "https://192.88.99.1/f",
        "https://127.0.1.11:9999/f",
        "https://0177.0.0.1/f",
        "https://2130706433/f",
    ],
)
def test_private_addresses_are_refused_however_they_are_written(url: str) -> None:
    with pytest.raises(InputError, match="private address") as caught:
        check(Reach(ELEMENTS, ()), url)
    assert "services.copy_from" in str(caught.value)


@pytest.mark.parametrize("url", ["https://127.0.1.11:8443/f", "https://127.1.1.11:8444/f", "https://192.0.32.7/f"])
def test_the_facility_itself_and_public_addresses_are_not(url: str) -> None:
    check(Reach(ELEMENTS, ()), url)


def test_what_the_facility_names_is_not() -> None:
    reach = Reach((), [ipaddress.ip_network("10.0.0.0/8")])
    check(reach, "https://10.1.2.3/f")
    with pytest.raises(InputError):
        check(reach, "https://10.1.2.3/f", "https://172.16.0.1/f")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "localhost.", "a..b", "x" * 64 + ".example"])
def test_a_name_without_address_is_refused(host: str) -> None:
    """The storage element's own resolver might know it, as something private."""
    with pytest.raises(InputError, match="no address"):
        check(Reach((), ()), f"https://{host}/f")


def test_hosts_of_one_job_are_bounded() -> None:
    with pytest.raises(InputError, match="too many hosts"):
        check(Reach((), ()), *(f"https://h{number}.example/f" for number in range(17)))


@pytest.mark.parametrize("host", ["127.0.1.11:8443", "127.1.1.11:8444", "dcache.example:2880"])
def test_destinations_are_the_elements_that_are_known(host: str) -> None:
    Reach([*ELEMENTS, "dcache.example:2880"], ()).check_destinations([f"https://{host}/f"])


@pytest.mark.parametrize("host", ["evil.example", "127.0.1.11:9999", "127.0.1.11"])
def test_nothing_is_copied_anywhere_else(host: str) -> None:
    with pytest.raises(InputError, match="no storage element of this facility"):
        Reach(ELEMENTS, [ipaddress.ip_network("0.0.0.0/0")]).check_destinations([f"https://{host}/f"])
