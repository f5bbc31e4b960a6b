"""What the keeper does in a running facility: certificates, disk, the issuer's keys."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from boathouse.run.base import UnitState
from boathouse.run.facility import prepare
from boathouse.run.pki import expiry
from boathouse.testing.box import Box, box
from boathouse.testing.small import small
from boathouse.testing.wait import wait_for

# Certificates are backdated by an hour: this one has a third of its life left 120 s after it was made.
# That is later than a start on a busy machine ends: a service restarted while it starts is not ready in time.
LIFETIME_S = 1980


@pytest.fixture(scope="module")
def small_box() -> Iterator[Box]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(small(services={"certificate_lifetime": f"{LIFETIME_S} s"}), file)
        file.flush()
        with box(Path(file.name)) as running:
            yield running


def test_certificates_renew_themselves_and_their_services_use_the_new_ones(small_box: Box) -> None:
    layout = small_box.local.plan.layout
    names = [certificate.name for certificate in small_box.local.plan.certificates]
    assert {"tokens", "rucio", "transfers", "se-cnaf-storm", "cache-cnaf-xcache"} <= set(names)
    before = {name: expiry(layout.certificate(name)) for name in names}
    ports = {"tokens": small_box.endpoints.issuer, "se-cnaf-storm": small_box.endpoints.storage[0].https}
    for name, url in ports.items():
        wait_for(
            f"{name} shows a certificate that ends later",
            lambda name=name, url=url: _served_expiry(url, layout.ca_bundle) > before[name],
            timeout_s=300,
            period_s=0.5,
        )
    small_box.wait_ready()
    assert small_box.login("alice").catalogue.account == "alice"


def test_a_nearly_full_disk_stops_the_writers_and_says_so_until_there_is_room(small_box: Box) -> None:
    free = shutil.disk_usage(small_box.state).free
    # What others write to this disk, or remove from it, meanwhile must not matter.
    room = min(3_000_000_000, free // 8)
    changed = small(services={"certificate_lifetime": "30 d", "disk_reserve": free - room})
    small_box.local = prepare(_written(small_box, changed), small_box.state)
    small_box.local.up()
    ballast = small_box.work / "ballast"
    try:
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 2 * room)
        health = wait_for("the keeper reports the disk", lambda: _unwell(small_box), timeout_s=120)
        assert "disk left, less than the reserve" in health["keeper"]
        assert {"transfers", "rucio-daemons"} <= set(health)
        shown = small_box.cli("status", check=False)
        assert shown.returncode == 5
        assert "stopped rucio-daemons, transfers until there is room" in shown.stdout
    finally:
        ballast.unlink()
    small_box.local = prepare(_written(small_box, small(services={"disk_reserve": "1 GB"})), small_box.state)
    small_box.local.up()
    small_box.wait_ready()


def test_a_new_key_of_the_issuer_reaches_storage_without_a_restart(small_box: Box) -> None:
    local = small_box.local
    # The certificates of the first test end within minutes: once they are renewed, nothing restarts for a while.
    long = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    urls = (small_box.endpoints.storage[0].https, small_box.endpoints.catalogue)
    bundle = local.plan.layout.ca_bundle
    wait_for(
        "the certificates last",
        lambda: all(_served_expiry(url, bundle) > long for url in urls),
        timeout_s=300,
        period_s=0.5,
    )
    small_box.wait_ready()
    before = {health.unit: health.pid for health in local.runner.status(local.plan)}
    jwks = local.plan.layout.data / "tokens" / "keys" / "jwks.json"
    old = jwks.read_bytes()
    command = [local.runner.programs.python, "-m", "boathouse.apps.tokens", "rotate", "--config"]
    subprocess.run([*command, local.plan.layout.config / "tokens" / "settings.json"], check=True, capture_output=True)
    wait_for("the new key is published", lambda: jwks.read_bytes() != old)
    lake = small_box.login("alice")
    assert lake.put([_written(small_box, {"any": "thing"})], scope="cms", rse_expression="CNAF-STORM")
    after = {health.unit: health.pid for health in local.runner.status(local.plan)}
    assert before["se-cnaf-storm"] == after["se-cnaf-storm"]
    assert before["rucio"] == after["rucio"]


def _written(running: Box, document: dict[str, object]) -> Path:
    path = running.work / "facility.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def _served_expiry(url: str, bundle: Path) -> dt.datetime:
    host, port = url.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=str(bundle))
    try:
        with (
            socket.create_connection((host, int(port)), timeout=60) as raw,
            context.wrap_socket(raw, server_hostname=host) as connection,
        ):
            shown = connection.getpeercert()
    except OSError:
        # It is being restarted.
        return dt.datetime.min.replace(tzinfo=dt.UTC)
    assert shown is not None
    return dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), dt.UTC)


def _unwell(running: Box) -> dict[str, str]:
    """Units that are not ready, with the reason, once the keeper is among them."""
    healths = running.local.runner.status(running.local.plan)
    found = {health.unit: health.detail for health in healths if health.state is not UnitState.ready}
    return found if "keeper" in found else {}
