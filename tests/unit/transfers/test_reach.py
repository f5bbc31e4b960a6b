from __future__ import annotations

import ipaddress

import pytest

from boathouse.apps.transfers.reach import Reach
from boathouse.errors import InputError

DOORS = {"127.0.1.11:8443": "127.1.1.11:8444"}


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:8443/f",
        "https://localhost/f",
        "https://10.1.2.3/f",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]:8443/f",
        "https://[::ffff:10.1.2.3]/f",
        "https://127.0.1.11:9999/f",
        "https://0177.0.0.1/f",
        "https://2130706433/f",
    ],
)
def test_private_addresses_are_refused_however_they_are_written(url: str) -> None:
    with pytest.raises(InputError, match="private address") as caught:
        Reach(DOORS, ()).check([url])
    assert "services.copy_from" in str(caught.value)


@pytest.mark.parametrize("url", ["https://127.0.1.11:8443/f", "https://127.1.1.11:8444/f", "https://192.0.32.7/f"])
def test_the_facility_itself_and_public_addresses_are_not(url: str) -> None:
    Reach(DOORS, ()).check([url])


def test_what_the_facility_names_is_not() -> None:
    Reach({}, [ipaddress.ip_network("10.0.0.0/8")]).check(["https://10.1.2.3/f"])
    with pytest.raises(InputError):
        Reach({}, [ipaddress.ip_network("10.0.0.0/8")]).check(["https://10.1.2.3/f", "https://172.16.0.1/f"])


def test_a_name_that_nobody_knows_is_left_to_the_copy() -> None:
    Reach({}, ()).check(["https://no-such-host.invalid/f"])
