"""After ``eval "$(boathouse env)"`` the field's own clients work, unmodified."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from boathouse.lake.access import LakeFile
from boathouse.lake.names import Did
from boathouse.testing.box import Box

SIZE = 123_456


@pytest.fixture(scope="module")
def stored(lake_box: Box) -> tuple[LakeFile, bytes]:
    """A file on CNAF-STORM, and its bytes."""
    file = lake_box.work / "stock.dat"
    file.write_bytes(os.urandom(SIZE))
    lake = lake_box.login("alice")
    (result,) = lake.put([file], scope="cms", rse_expression="CNAF-STORM")
    (found,) = lake.files(result.did, prefer="replica")
    return found, file.read_bytes()


@pytest.fixture(scope="module")
def environment(lake_box: Box) -> dict[str, str]:
    return lake_box.env("alice")


def run(environment: Mapping[str, str], *command: str | Path, cwd: Path | None = None) -> str:
    program = shutil.which(str(command[0]), path=environment["PATH"])
    assert program, f"{command[0]} is missing: run `make install`"
    done = subprocess.run(
        [program, *map(str, command[1:])],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def url(file: LakeFile, scheme: str) -> str:
    return next(url for url in file.urls if url.startswith(f"{scheme}://"))


def test_rucio_whoami(environment: dict[str, str]) -> None:
    assert re.search(r"^account +: +alice$", run(environment, "rucio", "whoami"), re.MULTILINE)


def test_rucio_rse_list(environment: dict[str, str]) -> None:
    names = run(environment, "rucio", "rse", "list", "--rses", "QOS=FAST").split()
    assert sorted(names) == ["CNAF-STORM", "CNAF_CMS_TEMP"]


def test_rucio_rule_show(environment: dict[str, str], lake_box: Box, stored: tuple[LakeFile, bytes]) -> None:
    (rule,) = lake_box.login("alice").rules.of(stored[0].did)
    shown = run(environment, "rucio", "rule", "show", rule.id)
    assert re.search(r"^State: +OK$", shown, re.MULTILINE)


def test_rucio_upload_and_download_over_https(environment: dict[str, str], lake_box: Box, tmp_path: Path) -> None:
    file = tmp_path / "stock-upload.dat"
    file.write_bytes(os.urandom(SIZE))
    run(environment, "rucio", "upload", "--rse", "CNAF-STORM", "--scope", "user.alice", file)
    lake = lake_box.login("alice")
    (found,) = lake.files(Did("user.alice", file.name), prefer="replica")
    assert found.size_bytes == SIZE
    run(environment, "rucio", "download", f"user.alice:{file.name}", "--dir", tmp_path / "out")
    assert (tmp_path / "out" / "user.alice" / file.name).read_bytes() == file.read_bytes()


def test_xrdcp_over_roots(environment: dict[str, str], stored: tuple[LakeFile, bytes], tmp_path: Path) -> None:
    file, body = stored
    run(environment, "xrdcp", "--silent", url(file, "root").replace("root://", "roots://"), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == body


def test_xrdcp_to_storage(environment: dict[str, str], lake_box: Box, tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_bytes(os.urandom(SIZE))
    element = next(element for element in lake_box.endpoints.storage if element.rse == "CNAF-STORM")
    target = f"{element.root.replace('root://', 'roots://')}//lake/user/alice/xrdcp.dat"
    run(environment, "xrdcp", "--silent", "--force", file, target)
    run(environment, "xrdcp", "--silent", target, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == file.read_bytes()
    run(environment, "xrdfs", element.root, "rm", "/lake/user/alice/xrdcp.dat")


def test_xrdfs(environment: dict[str, str], stored: tuple[LakeFile, bytes]) -> None:
    parts = urlsplit(url(stored[0], "root"))
    shown = run(environment, "xrdfs", f"root://{parts.netloc}", "stat", parts.path.replace("//", "/"))
    assert re.search(rf"^Size: +{SIZE}$", shown, re.MULTILINE)
    summed = run(environment, "xrdfs", f"root://{parts.netloc}", "query", "checksum", parts.path.replace("//", "/"))
    assert summed.split() == ["adler32", stored[0].adler32]


def test_davix_ls(environment: dict[str, str], stored: tuple[LakeFile, bytes]) -> None:
    # Debian's davix discovers no bearer token by itself.
    bearer = f"Authorization: Bearer {Path(environment['BEARER_TOKEN_FILE']).read_text()}"
    directory, _, name = url(stored[0], "https").rpartition("/")
    assert name in run(environment, "davix-ls", "-H", bearer, directory).split()


def test_curl(environment: dict[str, str], stored: tuple[LakeFile, bytes], tmp_path: Path) -> None:
    header = tmp_path / "header"
    header.write_text(f"Authorization: Bearer {Path(environment['BEARER_TOKEN_FILE']).read_text()}")
    header.chmod(0o600)
    target = url(stored[0], "https")
    run(environment, "curl", "--silent", "--fail", "-H", f"@{header}", "--output", tmp_path / "out", target)
    assert (tmp_path / "out").read_bytes() == stored[1]


def test_no_client_needs_to_be_told_not_to_verify(environment: dict[str, str], stored: tuple[LakeFile, bytes]) -> None:
    """Without the facility's CA the same calls fail: certificates are really checked."""
    bare = {key: value for key, value in environment.items() if "CERT" not in key and "CA_BUNDLE" not in key}
    done = subprocess.run(
        ["curl", "--silent", url(stored[0], "https")], env=bare, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 60
