"""What is said of mistakes in commands about data, and that they leave nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import uproot

from boathouse.cli.main import UNREAD
from boathouse.errors import AuthError, InputError, NotFoundError
from boathouse.lake.names import Did
from boathouse.testing.box import Box

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_an_import_to_nowhere_leaves_no_dataset(lake_box: Box, tmp_path: Path) -> None:
    # case import-21
    (tmp_path / "nowhere.dat").write_bytes(b"bytes")
    command = ("import", tmp_path / "nowhere.dat", "--any-file", "--to", "cms:nowhere", "--qos", "FASTER")
    refused = lake_box.cli(*command, user="alice", check=False)
    assert refused.returncode == InputError.exit_code
    with pytest.raises(NotFoundError):
        lake_box.login("alice").catalogue.did(Did("cms", "nowhere"))


def test_an_import_of_a_directory_takes_its_root_files_only(lake_box: Box, tmp_path: Path) -> None:
    # case import-20
    (tmp_path / ".git").mkdir()
    for name in (".git/hidden.root", "notes.txt"):
        (tmp_path / name).write_text("no ROOT file")
    with uproot.recreate(tmp_path / "chosen.root") as made:
        made["Events"] = {"x": np.arange(1000.0)}
    told = lake_box.cli("import", tmp_path, "--to", "cms:directory", "--qos", "FAST", user="alice").stderr
    assert f"1 file of directories left out, which are not *.root ({tmp_path / 'notes.txt'})" in told
    assert "--any-file" in told
    content = lake_box.login("alice").catalogue.content(Did("cms", "directory"))
    assert [str(info.did) for info in content] == ["cms:chosen.root"]


def test_a_quality_that_there_is_not_is_answered_with_those_that_there_are(lake_box: Box, tmp_path: Path) -> None:
    (tmp_path / "quality.dat").write_bytes(b"bytes")
    lake_box.login("alice").put([tmp_path / "quality.dat"], scope="testing", rse_expression="CNAF-STORM")
    put = ("put", tmp_path / "quality.dat", "--name", "other.dat", "--qos", "SAVE")
    for command in (("rule", "add", "testing:quality.dat", "QOS=SAVE"), put):
        refused = lake_box.cli(*command, user="alice", check=False)
        assert refused.returncode == InputError.exit_code
        for words in ("no RSE has QOS=SAVE", "one of A, B, CHEAP-ANALYSIS, FAST, SAFE", "did you mean QOS=SAFE?"):
            assert words in refused.stderr, refused.stderr


def test_an_unknown_scope_is_answered_with_those_near_it(lake_box: Box) -> None:
    refused = lake_box.cli("ls", "testin", user="alice", check=False)
    assert refused.returncode == NotFoundError.exit_code
    assert "one of testing" in refused.stderr


MISSPELT = {
    ("up", "escpae"): "boathouse up escape",
    ("logs", "ruciodaemons"): "boathouse logs rucio-daemons",
    ("run", "NONE", "cms:x", "--site", "CNAFF"): "--site CNAF",
    ("facility", "explain", "qos"): "'qos' stands in sites.<site>.storage.<rse>.qos",
    ("login", "--user", "bob", "--password-file", "nowhere"): "boathouse login --user bob, and type it",
}


@pytest.mark.parametrize("command", MISSPELT, ids=" ".join)
def test_a_misspelt_word_is_answered_with_what_to_type(lake_box: Box, command: tuple[str, ...]) -> None:
    analysis = str(EXAMPLES / "analysis" / "dimuon.py")
    words = [analysis if word == "NONE" else word for word in command]
    refused = lake_box.cli(*words, user="alice", check=False)
    said = re.sub(r" --state \S+", "", refused.stderr)
    assert f"remedy: {MISSPELT[command]}" in said


def test_a_refused_file_is_named_and_leaves_no_part(lake_box: Box, tmp_path: Path) -> None:
    # case get-7
    (tmp_path / "dark.dat").write_bytes(os.urandom(1000))
    lake_box.login("alice").put([tmp_path / "dark.dat"], scope="magic", rse_expression="CNAF-STORM")
    out = tmp_path / "out"
    refused = lake_box.cli("get", "magic:dark.dat", "--to", out, user="bob", check=False)
    assert refused.returncode == AuthError.exit_code
    assert "your groups do not open /lake/magic" in refused.stderr
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(("chosen", "schemes"), [((), {"https", "root"}), (("--protocol", "root"), {"root"})])
def test_replicas_are_shown_with_the_urls_of_each_protocol(
    lake_box: Box, tmp_path: Path, chosen: tuple[str, ...], schemes: set[str]
) -> None:
    name = f"shown-{len(chosen)}.dat"
    (tmp_path / name).write_bytes(os.urandom(1000))
    lake_box.login("alice").put([tmp_path / name], scope="testing", rse_expression="CNAF-STORM")
    table = lake_box.cli("ls", "--replicas", f"testing:{name}", *chosen, user="alice").stdout.splitlines()[1:]
    assert {line.split()[-1].partition(":")[0] for line in table} == schemes


@pytest.mark.parametrize(
    "command",
    [
        ("ls", ""),
        ("ls", "[bold]x[/bold]"),
        ("logs", "nope"),
        ("cache", "status", "--at", "NOPE"),
        ("cache", "prestage", "cms:x", "--at", "NOPE"),
        ("get", "cms:x", "--to", ""),
        ("transfer", "watch", "--timeout", "-1 s"),
    ],
    ids=" ".join,
)
def test_a_word_that_cannot_be_meant_is_bad_input(lake_box: Box, command: tuple[str, ...]) -> None:
    refused = lake_box.cli(*command, user="alice", check=False)
    assert (refused.returncode, refused.stdout) == (InputError.exit_code, ""), refused.stderr


def test_words_of_other_people_do_nothing_to_a_terminal(lake_box: Box, tmp_path: Path) -> None:
    (tmp_path / "forged.dat").write_bytes(b"bytes")
    lake_box.login("alice").put([tmp_path / "forged.dat"], scope="testing", rse_expression="CNAF-STORM")
    comment = "ok\nState: OK\nAccount: root \x1b]0;pwned\a"
    add = ("rule", "add", "testing:forged.dat", "QOS=SAFE", "--comment", comment)
    rule_id = lake_box.cli(*add, user="alice").stdout.strip()
    told = lake_box.cli("rule", "show", rule_id, user="bob").stdout
    assert len(told.splitlines()) == 25
    assert r"Comment: ok\nState: OK\nAccount: root \x1b]0;pwned\x07" in told.splitlines()


def test_a_reader_that_leaves_early_is_no_error(lake_box: Box) -> None:
    lake_box.ensure_login("alice")
    for words in (("ls",), ("ls", "--rses"), ("ls", "--json")):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "boathouse.cli", *words]
        environment = lake_box.environment("alice")
        ended = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writer)
        assert (ended.returncode, ended.stderr) == (UNREAD, "")
