"""Packages of another suite, from a small archive of our own: only what a known key has signed is ever used."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest
from install import debian_tree
from install.debian_apt import Apt, SuiteError, package_file, source_line, unpack, use_suite

from boathouse.errors import HostError

ARCHIVE = Path(__file__).parent / "archive"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Silence."""


@pytest.fixture
def archive(tmp_path):
    """A copy that a test may change, and its URL."""
    root = tmp_path / "archive"
    shutil.copytree(ARCHIVE, root)
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield root, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def apt(tmp_path):
    made = Apt(tmp_path / "apt")
    made.architecture = "amd64"
    return made


def read(apt, archive, suite="good", key="known"):
    root, url = archive
    apt.use(suite, source_line(url, suite, root / f"{key}.gpg"))


def test_a_signed_package_is_fetched_and_unpacked(apt, archive, tmp_path):
    read(apt, archive)
    (package,) = debian_tree.closure(apt, ["tiny"])
    assert (package.version, package.section, package.depends) == ("1:2.0-1", "libs", ("missing-library", "tiny-data"))
    apt.download([package], tmp_path)
    unpack(tmp_path / package_file(package), tmp_path / "tree")
    assert (tmp_path / "tree/usr/share/tiny/file").read_text() == "hello\n"


@pytest.mark.parametrize(("suite", "key"), [("good", "other"), ("unsigned", "known"), ("none", "known")])
def test_what_no_known_key_signed_is_refused(apt, archive, suite, key):
    with pytest.raises(SuiteError) as caught:
        read(apt, archive, suite, key)
    assert suite in caught.value.got


def test_no_chain_of_keys_leads_to_the_suite(apt, archive, tmp_path):
    root, url = archive
    with pytest.raises(SuiteError, match="signature of the Debian suite good cannot be verified"):
        use_suite(apt, url, "good", root / "other.gpg", tmp_path)


def test_a_changed_index_is_refused(apt, archive):
    root, _ = archive
    index = root / "dists/good/main/binary-amd64/Packages"
    index.write_text(index.read_text().replace("Size: 788", "Size: 789"))
    with pytest.raises(SuiteError, match="index"):
        read(apt, archive)


def test_a_changed_package_is_refused(apt, archive, tmp_path):
    root, _ = archive
    read(apt, archive)
    packages = debian_tree.closure(apt, ["tiny"])
    file = root / "pool/tiny_2.0-1_amd64.deb"
    file.write_bytes(file.read_bytes()[:-1] + b"X")
    with pytest.raises(HostError, match="cannot be fetched"):
        apt.download(packages, tmp_path)
    assert list(tmp_path.glob("*.deb")) == []


def test_a_suite_read_before_does_not_stand_in(apt, archive):
    root, _ = archive
    read(apt, archive)
    shutil.rmtree(root / "dists/good")
    with pytest.raises(SuiteError):
        read(apt, archive)


def test_a_suite_without_the_package(apt, archive):
    read(apt, archive)
    with pytest.raises(SuiteError, match="lacks packages"):
        debian_tree.closure(apt, ["tiny", "large"])
