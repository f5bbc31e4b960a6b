"""Packages of another suite, from a small archive of our own: only what a known key has signed is ever used."""

from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import threading
from pathlib import Path

import pytest
from install import debian_apt, debian_suite
from install.debian_apt import Apt, SuiteError, package_file, source_line, unpack, use_suite
from install.debian_recipe import Recipe

from boathouse.errors import HostError

ARCHIVE = Path(__file__).parent / "archive"
RECIPE = Recipe(what="tiny", packages=("tiny",), programs=())


def silent(_: str) -> None:
    """Say nothing."""


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
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield root, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def apt(tmp_path):
    return Apt(tmp_path / "apt", "amd64")


def read(apt, archive, suite="good", key="known"):
    root, url = archive
    apt.use(suite, source_line(url, suite, root / f"{key}.gpg"))


def test_a_signed_package_is_fetched_and_unpacked(apt, archive, tmp_path):
    read(apt, archive)
    (package,) = debian_suite.closure(apt, ["tiny"])
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
    packages = debian_suite.closure(apt, ["tiny"])
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
        debian_suite.closure(apt, ["tiny", "large"])


# -- which suite, for which machine ------------------------------------------------------------------------------------


@pytest.fixture
def network(archive, monkeypatch):
    """The archive is the mirror that the machine knows, its keys are the machine's, and a call chooses the suite."""
    root, url = archive
    monkeypatch.setenv(debian_apt.MIRROR_VARIABLE, url)
    monkeypatch.setattr(debian_apt, "KEYRINGS", (root / "known.gpg",))

    def suites(*names):
        monkeypatch.setattr(debian_suite, "SUITES", names)
        return root

    suites("good")
    return suites


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_packages_are_those_of_the_machine_with_the_hashes_of_the_signed_index(architecture, network, tmp_path):
    root = network("good")
    apt = Apt(tmp_path / "apt", architecture)
    selection = debian_suite.select(apt, tmp_path, RECIPE, silent)
    (package,) = selection.packages
    file = root / "pool" / f"tiny_2.0-1_{architecture}.deb"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (package.architecture, package.sha256, package.size) == (architecture, digest, file.stat().st_size)
    (described,) = selection.described()["packages"]
    assert (described["architecture"], described["sha256"]) == (architecture, digest)
    debian_suite.fetch(apt, selection.packages, tmp_path / "packages", silent)
    assert (tmp_path / "packages" / f"tiny_1%3a2.0-1_{architecture}.deb").read_bytes() == file.read_bytes()


def test_an_arm64_index_that_was_changed_is_refused(network, tmp_path):
    index = network("good") / "dists/good/main/binary-arm64/Packages"
    index.write_text(index.read_text().replace("SHA256: ", "SHA256: 0"))
    with pytest.raises(HostError, match="no Debian suite gives a fit tiny"):
        debian_suite.select(Apt(tmp_path / "apt", "arm64"), tmp_path, RECIPE, silent)


def test_a_suite_that_is_too_old_is_passed_over_and_told(network, tmp_path):
    recipe = Recipe(what="tiny", packages=("tiny",), programs=(), oldest=(2, 1))
    with pytest.raises(HostError, match="fit tiny") as caught:
        debian_suite.select(Apt(tmp_path / "apt", "amd64"), tmp_path, recipe, silent)
    assert caught.value.got == "good has 1:2.0-1"
    assert caught.value.expected == "2.1 or later in good"


# -- a copy for machines without a network ---------------------------------------------------------------------------


@pytest.fixture
def copied(network, archive, tmp_path, monkeypatch):
    """A copy of the archive's package for arm64; the archive itself is not to be had any more."""
    target = tmp_path / "a bundle" / "debian"
    work = tmp_path / "making"
    network("packed")
    debian_suite.copy(Apt(work / "apt", "arm64"), work, RECIPE, target, silent)
    monkeypatch.setenv(debian_apt.MIRROR_VARIABLE, "http://127.0.0.1:1")
    return target


def taken(copy, work):
    apt = Apt(work / "apt", "arm64")
    selection = debian_suite.select(apt, work, RECIPE, silent, copy)
    debian_suite.fetch(apt, selection.packages, work / "packages", silent)
    return selection


def test_a_copy_is_as_good_as_the_archive(copied, tmp_path):
    selection = taken(copied, tmp_path / "installing")
    assert selection.described()["mirror"] == "a bundle"
    assert (tmp_path / "installing/packages/tiny_1%3a2.0-1_arm64.deb").exists()
    held = sorted(str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file())
    assert held == ["dists/packed/InRelease", "dists/packed/main/binary-arm64/Packages", "pool/tiny_2.0-1_arm64.deb"]


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("dists/packed/InRelease", "no Debian suite gives a fit tiny"),
        ("dists/packed/main/binary-arm64/Packages", "no Debian suite gives a fit tiny"),
        ("pool/tiny_2.0-1_arm64.deb", "a package cannot be fetched"),
    ],
)
def test_a_copy_that_was_changed_is_refused(copied, file, says, tmp_path):
    content = (copied / file).read_bytes()
    (copied / file).write_bytes(
        content.replace(b"2.0-1", b"2.0-2") if b"2.0-1" in content else content[:-9] + b"12345678\n"
    )
    with pytest.raises(HostError, match=says):
        taken(copied, tmp_path / "installing")


def test_a_copy_signed_by_a_key_that_the_machine_does_not_have_is_refused(copied, archive, tmp_path, monkeypatch):
    root, _ = archive
    monkeypatch.setattr(debian_apt, "KEYRINGS", (root / "other.gpg",))
    with pytest.raises(HostError, match="no Debian suite gives a fit tiny") as caught:
        taken(copied, tmp_path / "installing")
    assert "cannot be verified" in caught.value.got


def test_without_the_keys_of_debian_a_copy_is_refused_with_the_package_that_has_them(copied, tmp_path, monkeypatch):
    monkeypatch.setattr(debian_apt, "KEYRINGS", (tmp_path / "none.gpg",))
    with pytest.raises(HostError, match="does not have the keys") as caught:
        taken(copied, tmp_path / "installing")
    assert "debian-archive-keyring" in caught.value.remedy


def test_an_index_past_its_date_is_refused_on_the_network_and_taken_from_a_copy(network, tmp_path, monkeypatch):
    root = network("expired")
    # A machine that is pinned to an old state of its distribution looks at no dates; others do.
    strict = tmp_path / "strict.conf"
    strict.write_text('Dir::Etc::Main "/dev/null";\nDir::Etc::Parts "/dev/null";\n')
    monkeypatch.setenv("APT_CONFIG", str(strict))
    with pytest.raises(HostError) as caught:
        debian_suite.select(Apt(tmp_path / "apt", "amd64"), tmp_path, RECIPE, silent)
    assert "expired" in caught.value.got
    apt = Apt(tmp_path / "local", "amd64")
    assert debian_suite.select(apt, tmp_path, RECIPE, silent, root).suite == "expired"
