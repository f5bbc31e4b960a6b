"""What the driver of the care of caches plans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from boathouse.apps.caches.settings import Settings
from boathouse.apps.serving import load
from boathouse.facility.model import Facility
from boathouse.plan.build import build, port_requests
from boathouse.plan.model import Layout
from boathouse.plan.service import Programs
from boathouse.services.registry import drivers

DOCUMENT = {
    "name": "test",
    "vo": "escape",
    "sites": {
        "NORTH": {"caches": {"NEAR": {"scrub_interval": "2 h"}}},
        "SOUTH": {"storage": {"DISK": {"qos": "FAST"}}, "caches": {"REGION": {"level": "region", "size": "2 GB"}}},
    },
    "groups": {"cms": {}},
    "users": {"alice": {"name": "A", "email": "a@example.org", "groups": ["cms"], "admin": True}},
}


def plan(document):
    facility = Facility.model_validate(document)
    requests = port_requests(facility, drivers())
    return build(
        facility,
        drivers(),
        layout=Layout(Path("/state")),
        programs=Programs(Path("/p"), Path("/r"), Path("/c"), Path("/pg"), Path("/x"), xrootd_version="6.2.0"),
        ports={request.key: 2000 + number for number, request in enumerate(requests)},
    )


@pytest.fixture
def settings(tmp_path):
    (file,) = plan(DOCUMENT).unit("caches").files
    (tmp_path / "settings.json").write_text(file.text, encoding="utf-8")
    return load(Settings, tmp_path / "settings.json")


def test_every_cache_is_cared_for(settings):
    near, region = settings.caches
    assert (near.name, near.site, near.level, near.scrub_interval_s) == ("NEAR", "NORTH", "site", 7200)
    assert (region.size_bytes, region.data) == (2_000_000_000, Path("/state/data/cache-region"))
    assert near.stream_port != region.stream_port
    assert settings.doors == {f"{cache.address}:{cache.root_port}" for cache in settings.caches}
    assert settings.prefixes == ("/lake",)


def test_operators_are_the_operators_client_and_administrators(settings):
    assert settings.operators == ("operator", "${secret:sub-alice}")


def test_clients_are_told_where_it_is(settings):
    assert plan(DOCUMENT).endpoints.care == settings.url == f"https://127.0.0.1:{settings.port}"


def test_a_facility_without_caches_has_none():
    document = json.loads(json.dumps(DOCUMENT))
    for site in document["sites"].values():
        site.pop("caches")
    made = plan(document)
    assert made.endpoints.care == ""
    assert "caches" not in [unit.name for unit in made.units]
