"""What an operator calls a storage element, and what its files are queued under."""

from __future__ import annotations

import pytest

from boathouse.apps.transfers.settings import Settings
from boathouse.apps.transfers.steering import Elements

SETTINGS = Settings.model_construct(
    doors={"h:1": "door:2"}, https_of={"h:3": "h:1", "door:4": "door:2", "h:5": "h:443"}, destinations=("h:7",)
)


@pytest.mark.parametrize(
    ("name", "hosts"),
    [
        ("*", []),
        ("davs://h:1", ["door:2", "h:1"]),
        ("door:2", ["door:2", "h:1"]),
        ("root://H:3", ["door:2", "h:1"]),
        ("roots://door:4/", ["door:2", "h:1"]),
        ("root://h:5", ["h"]),
        ("root://h:6", ["h:6"]),
        ("https://h:443", ["h"]),
        ("h", ["door:2", "h:1", "h:7"]),
    ],
)
def test_an_element_has_one_queue_whatever_protocol_and_door_it_is_named_by(name: str, hosts: list[str]) -> None:
    assert Elements(SETTINGS).hosts(name) == hosts
