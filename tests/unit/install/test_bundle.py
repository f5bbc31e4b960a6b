"""A bundle is taken only as it was made, on a machine of its kind, by the checkout that it was made from."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import platform
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from install import __main__ as installer
from install import bundle, environments
from install.bundle import Bundle, Machine
from install.host import Progress

from boathouse.errors import HostError

CHECKOUT = Path(__file__).parents[3]
PARTS = {"main": "1" * 64, "xrootd": "2" * 64}
WHEEL, PACKAGE = "wheels/tiny-1.0-py3-none-any.whl", "debian/pool/main/t/tiny_1.0_all.deb"
CONTENT = {WHEEL: b"a wheel", PACKAGE: b"a package", "debian/dists/forky/InRelease": b"signed"}

Edit = Callable[[dict[str, bytes]], object]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock that names the wheel."""
    path = tmp_path / "main.txt"
    path.write_text(f"tiny==1.0 \\\n    --hash=sha256:{hashlib.sha256(CONTENT[WHEEL]).hexdigest()}\n")
    return path


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A bundle."""
    content = tmp_path / "content"
    for name, data in CONTENT.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_bytes(data)
    path = tmp_path / "some where" / "bundle.tar.gz"
    size = bundle.write(path, content, PARTS)
    assert size == path.stat().st_size
    return path


def unpacked(path: Path, lock: Path, parts: dict[str, str] = PARTS) -> Bundle:
    into = lock.parent / "unpacked"
    into.mkdir()
    return bundle.unpack(path, into, parts=parts, locks=[lock])


def refused(path: Path, lock: Path, parts: dict[str, str] = PARTS) -> HostError:
    with pytest.raises(HostError) as caught:
        unpacked(path, lock, parts)
    assert caught.value.where == str(path)
    assert "make bundle" in str(caught.value.remedy)
    return caught.value


def rewritten(path: Path, edit: Edit) -> Path:
    """The same bundle with its members edited, by somebody who knows the format."""
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        content = {name: stream.read() for name, stream in members.items() if stream}
    edit(content)
    with tarfile.open(path, "w:gz") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def edited_manifest(path: Path, **changes: object) -> Path:
    def edit(content: dict[str, bytes]) -> None:
        content["manifest.json"] = json.dumps({**json.loads(content["manifest.json"]), **changes}).encode()

    return rewritten(path, edit)


def test_what_was_put_in_comes_out(made: Path, lock: Path) -> None:
    opened = unpacked(made, lock)
    found = {
        path.relative_to(opened.directory).as_posix(): path.read_bytes()
        for path in opened.directory.rglob("*")
        if path.is_file()
    }
    assert found == CONTENT
    assert opened.archive == opened.directory / "debian"
    assert [path.name for path in made.parent.iterdir()] == [made.name]


@pytest.mark.parametrize("name", sorted(CONTENT))
def test_a_changed_file_is_refused_by_its_name(name: str, made: Path, lock: Path) -> None:
    error = refused(rewritten(made, lambda content: content.update({name: content[name] + b"!"})), lock)
    assert error.what == "the bundle is not as it was made"
    assert error.got == f"{name} with another SHA-256 than the manifest says"


@pytest.mark.parametrize(
    ("edit", "got"),
    [
        (lambda content: content.pop(PACKAGE), f"no {PACKAGE}"),
        (
            lambda content: content.update({"wheels/more.whl": b"x"}),
            "wheels/more.whl, which the manifest does not name",
        ),
        (lambda content: content.update({"../../x": b"x"}), "../../x, which the manifest does not name"),
    ],
    ids=["missing", "more", "outside"],
)
def test_missing_and_further_files_are_refused(edit: Edit, got: str, made: Path, lock: Path) -> None:
    assert refused(rewritten(made, edit), lock).got == got
    assert not (lock.parent.parent / "x").exists()


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "debian/../../x", "elsewhere/x", "."])
def test_nothing_is_written_outside_even_if_the_manifest_names_it(name: str, made: Path, lock: Path) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    path = edited_manifest(made, files={name: digest})

    def edit(content: dict[str, bytes]) -> None:
        for one in CONTENT:
            content.pop(one)
        content[name] = b"x"

    assert refused(rewritten(path, edit), lock).what == "the bundle is not as it was made"
    assert not list((lock.parent / "unpacked").iterdir())


def test_a_wheel_that_no_lock_names_is_refused_even_if_the_manifest_does(made: Path, lock: Path) -> None:
    lock.write_text(lock.read_text().replace("sha256:", "sha256:0"))
    error = refused(made, lock)
    assert error.what == "the bundle holds a Python package that the locks of this checkout do not name"
    assert error.got == WHEEL


def test_a_bundle_of_another_version_of_boathouse_is_refused(made: Path, lock: Path) -> None:
    error = refused(made, lock, {**PARTS, "main": "3" * 64})
    assert (error.what, error.got) == ("the bundle was made from another version of Boathouse", "another main")


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({"architecture": "riscv64"}, False),
        ({"python": "3.9"}, False),
        ({"libc": "99.0"}, False),
        ({"libc": "2.9"}, True),
    ],
    ids=str,
)
def test_a_bundle_for_another_kind_of_machine_is_refused(
    changes: dict[str, str], taken: bool, made: Path, lock: Path
) -> None:
    other = dataclasses.replace(Machine.this(), **changes)
    path = edited_manifest(made, machine=dataclasses.asdict(other))
    if taken:
        assert unpacked(path, lock)
    else:
        assert refused(path, lock).got == str(other)


def test_this_machine_is_told_as_its_interpreter_sees_it() -> None:
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert Machine.this() == Machine(platform.machine(), python, platform.libc_ver()[1])


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_bundle_that_was_cut_off_is_refused(keep: float, made: Path, lock: Path) -> None:
    data = made.read_bytes()
    made.write_bytes(data[: int(len(data) * keep)])
    refused(made, lock)


@pytest.mark.parametrize("content", [b"", b"no archive at all"])
def test_another_file_is_refused(content: bytes, made: Path, lock: Path) -> None:
    made.write_bytes(content)
    assert refused(made, lock).what == "the bundle cannot be read"


@pytest.mark.parametrize(
    "changes",
    [{"format": 2}, {"machine": {}}, {"files": None}, {"parts": 3}, {"files": {"wheels/x": ["digest"]}}],
    ids=["format", "machine", "files", "parts", "digest"],
)
def test_a_bundle_of_another_format_is_refused(changes: dict[str, object], made: Path, lock: Path) -> None:
    assert refused(edited_manifest(made, **changes), lock).what == "this is no bundle, or one of another format"


def test_no_bundle_at_all_is_one_error(tmp_path: Path, lock: Path) -> None:
    assert refused(tmp_path / "none", lock).what == "there is no such bundle"


def test_pip_and_uv_take_files_from_the_bundle_and_from_nowhere_else(tmp_path: Path) -> None:
    variables = Bundle(tmp_path / "some where").variables
    place = (tmp_path / "some where" / "wheels").as_uri()
    assert " " not in place
    pip = {name: value for name, value in variables.items() if name.startswith("PIP_")}
    uv = {name: value for name, value in variables.items() if name.startswith("UV_")}
    assert pip == {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": place}
    assert uv == {"UV_NO_INDEX": "1", "UV_FIND_LINKS": place, "UV_OFFLINE": "1"}


def test_a_bundle_holds_what_the_installer_takes_and_nothing_for_tests() -> None:
    assert set(environments.BUNDLED) == {"uv", "build", *environments.LOCKED}
    for flag in ("--bundle", "--make-bundle"):
        command = [sys.executable, "-m", "install", "--home", "/nonexistent", "--tests", flag, "x"]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "nothing that only tests run" in done.stderr


def test_a_bundle_that_is_no_use_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / ".bundle-left-by-one-that-was-killed").mkdir()
    arguments = argparse.Namespace(bundle=tmp_path / "none", make_bundle=None, tests=False)
    with pytest.raises(HostError, match="there is no such bundle"):
        installer._install(arguments, tmp_path, Progress())
    assert list(tmp_path.iterdir()) == []
