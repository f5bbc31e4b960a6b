from __future__ import annotations

import json
from pathlib import Path

import pytest

from boathouse.apps import serving
from boathouse.apps.transfers.settings import Settings
from boathouse.facility.model import Facility
from boathouse.plan.model import Layout, ProbeKind
from boathouse.plan.service import Context, Programs
from boathouse.services.transfers import Transfers

FACILITY = Facility.model_validate(
    {
        "name": "f",
        "vo": "escape",
        "sites": {"CNAF": {"storage": {"CNAF-STORM": {"qos": "FAST"}}}},
        "groups": {"cms": {}},
        "stores": {
            "cloud": {
                "url": "s3s://s3.example:443/bucket/lake/",
                "user": "AKIA",
                "secret_file": "/etc/key",
                "groups": ["cms"],
            },
            "area": {"url": "davs://dav.example:8443", "write": True},
        },
        "services": {"copy_from": ["10.0.0.0/8"]},
    }
)


@pytest.fixture
def context() -> Context:
    binaries = Path("/opt")
    return Context(
        facility=FACILITY,
        layout=Layout(Path("/s")),
        programs=Programs(
            python=Path("/opt/python"),
            rucio_python=binaries,
            rucio_client_bin=binaries,
            postgres_bin=binaries,
            xrootd_bin=binaries,
            xrootd_version="6.2.0",
        ),
        ports={
            "transfers": 8446,
            "tokens": 8443,
            "CNAF-STORM.https": 1,
            "CNAF-STORM.copy.https": 2,
            "CNAF-STORM.root": 3,
            "CNAF-STORM.copy.root": 4,
        },
        addresses={
            "transfers": "127.0.0.2",
            "tokens": "127.0.0.1",
            "CNAF-STORM.https": "127.0.1.11",
            "CNAF-STORM.copy.https": "127.1.1.11",
            "CNAF-STORM.root": "127.0.1.11",
            "CNAF-STORM.copy.root": "127.1.1.11",
        },
    )


def test_it_listens_on_an_address_of_its_own() -> None:
    (request,) = Transfers().ports(FACILITY)
    assert (request.key, request.address, request.wanted) == ("transfers", "127.0.0.2", None)


def test_its_settings_are_what_the_service_wants(context: Context, tmp_path: Path) -> None:
    plan = Transfers().plan(context)
    (unit,) = plan.units
    (config,) = unit.files
    text = config.text
    for secret in plan.secrets:
        text = text.replace(f"${{secret:{secret.name}}}", "A" * 43).replace(f"${{quoted-secret:{secret.name}}}", "x")
    assert "${" not in text
    written = tmp_path / "settings.json"
    written.write_text(text)
    read = serving.load(Settings, written)
    assert (read.audience, read.vo, read.issuer) == ("127.0.0.2", "escape", context.issuer)
    assert read.database_url == "postgresql+psycopg://transfers:x@/transfers?host=/s/run/postgres"
    assert read.doors == {"127.0.1.11:1": "127.1.1.11:2"}
    assert read.https_of == {"127.0.1.11:3": "127.0.1.11:1", "127.1.1.11:4": "127.1.1.11:2"}
    assert [str(network) for network in read.copy_from] == ["10.0.0.0/8"]
    cloud, area = read.stores
    assert (cloud.kind, cloud.host, cloud.path, cloud.user) == ("s3", "s3.example", "/bucket/lake", "AKIA")
    assert (cloud.secret, cloud.write, cloud.groups) == ("A" * 43, False, ("/escape/cms",))
    assert (area.kind, area.host, area.path, area.secret, area.write) == ("webdav", "dav.example:8443", "", "", True)
    assert json.loads(config.text)["stores"][0]["secret"] == "${secret:store-cloud}"
    assert json.loads(config.text)["client_secret"] == "${secret:client-transfers}"


def test_its_unit_waits_for_what_it_needs(context: Context) -> None:
    (unit,) = Transfers().plan(context).units
    assert unit.needs == ("postgres",)
    assert (unit.probe.kind, unit.probe.target) == (ProbeKind.https, "https://127.0.0.2:8446/health")
    assert unit.command == (
        "/opt/python",
        *("-m", "boathouse.apps.transfers", "--config", "/s/config/transfers/settings.json"),
    )
