"""A lake that runs no issuer: its people and its services have their tokens from one that somebody else runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from boathouse.lake.names import Did
from boathouse.plan.service import Programs
from boathouse.testing.box import Box, box
from boathouse.testing.scratch import scratch

from .community import Aai, aai, content, lake_without_issuer


@dataclass
class Lake:
    """The lake and the issuer."""

    box: Box
    aai: Aai

    def login(self, user: str, check_account: str) -> None:
        password = self.box.work / f"password-{user}"
        password.write_text(self.aai.password(user))
        told = self.box.login_with(user, "--user", user, "--password-file", password)
        assert f"Logged in to lake as {check_account}" in told.stdout


@pytest.fixture(scope="module")
def lake(programs: Programs) -> Iterator[Lake]:
    with aai(programs) as issuer, scratch() as directory:
        document = lake_without_issuer(issuer.url, issuer.ca, issuer.sub("dana"), directory)
        (directory / "lake.yaml").write_text(yaml.safe_dump(document))
        with box(directory / "lake.yaml") as running:
            made = Lake(running, issuer)
            made.login("dana", "carol")
            yield made


def test_a60_no_issuer_of_its_own_runs(lake: Lake) -> None:
    units = {unit.name for unit in lake.box.local.plan.units}
    assert "tokens" not in units
    assert lake.box.endpoints.issuer == lake.aai.url
    refused = lake.box.cli("iam", "keys", "list", check=False)
    assert "runs no issuer of its own" in refused.stderr


def test_a60_people_work_with_tokens_of_the_issuer(lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "external.dat"
    file.write_bytes(content())
    lake.box.cli("put", file, "--scope", "survey", "--rse", "CNAF-STORM", user="dana")
    lake.box.cli("get", "survey:external.dat", "--to", tmp_path / "got", user="dana")
    assert (tmp_path / "got" / file.name).read_bytes() == file.read_bytes()
    assert json.loads(lake.box.cli("whoami", "--json", user="dana").stdout)["login"] == "dana"
    through = lake.box.login("dana")
    (found,) = through.files(Did("survey", "external.dat"), prefer="cache", site="CNAF")
    (cache,) = lake.box.endpoints.caches
    (url,) = [url for url in found.urls if url.startswith(cache.https)]
    assert (
        through.http.request("GET", url, headers={"Authorization": f"Bearer {through.token()}"}).data
        == file.read_bytes()
    )


def test_a60_services_work_with_tokens_of_the_issuer(lake: Lake, tmp_path: Path) -> None:
    """Rucio's client submits, the transfer service exchanges, the operator audits."""
    file = tmp_path / "moved.dat"
    file.write_bytes(content())
    lake.box.cli("put", file, "--scope", "survey", "--rse", "CNAF-STORM", user="dana")
    lake.box.cli("rule", "add", "survey:moved.dat", "QOS=SAFE", "--wait", user="dana")
    (found,) = lake.box.login("dana").catalogue.replicas([Did("survey", "moved.dat")], schemes=["https"])
    assert found.at("DESY-DCACHE") == "AVAILABLE"
    assert "Catalogue and storage agree" in lake.box.cli("audit", "--in-flight", "0").stdout


def test_a60_who_is_in_no_users_identities_is_nobody(lake: Lake) -> None:
    password = lake.box.work / "password-eva"
    password.write_text(lake.aai.password("eva"))
    said = lake.box.login_with("eva", "--user", "eva", "--password-file", password)
    assert "nothing in the catalogue" in said.stderr
    refused = lake.box.cli("ls", "survey:external.dat", user="eva", check=False)
    assert refused.returncode
    assert "CannotAuthenticate" in refused.stderr
