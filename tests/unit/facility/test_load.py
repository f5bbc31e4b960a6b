"""A facility file gets one clear message for each fault, all at once, with its line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from boathouse.errors import BoathouseError, FacilityError
from boathouse.facility.load import load, read
from boathouse.facility.schema import settings
from boathouse.run.local.secrets import read_source

from .conftest import EXAMPLES, GOOD, Faults

Write = Callable[[str], Path]


@pytest.mark.parametrize("name", ["laptop", "escape"])
def test_examples_are_good(name: str) -> None:
    facility = load(EXAMPLES / f"{name}.yaml")
    assert facility.name == name


def test_a3_the_escape_example_names_the_eleven_storage_elements_of_the_lake() -> None:
    assert set(load(EXAMPLES / "escape.yaml").storage) == {
        "CNAF-STORM",
        "CNAF_CMS_TEMP",
        "DESY-DCACHE",
        "EULAKE-1",
        "EULAKE-2",
        "IN2P3-CC-DCACHE",
        "INFN-NAPOLI-DPM",
        "LAPP-DCACHE",
        "LAPP-DPM",
        "PIC-DCACHE",
        "SARA-DCACHE",
    }


def test_a93_the_same_file_gives_the_same_facility(write: Write) -> None:
    assert load(write(GOOD)) == load(write(GOOD))


def test_all_faults_are_told_at_once_in_file_order(write: Write) -> None:
    text = """\
name: small
vo: escape
sites:
  CNAF:
    storage:
      CNAF-STORM: {qos: FAST, capcity: 1 GB}
    caches:
      CNAF-XCACHE: {upstreams: [DESY-DCACHE]}
  DESY:
    storage:
      CNAF-STORM: {qos: SAFE}
"""
    with pytest.raises(FacilityError) as caught:
        load(write(text))
    shown = [(problem.what, str(problem.where).rpartition("facility.yaml")[2]) for problem in caught.value.problems]
    assert shown == [
        ("unknown key 'capcity' in sites.CNAF.storage.CNAF-STORM", ":6:31"),
        ("there is no storage element or cache 'DESY-DCACHE'", ":8:33"),
        ("two storage elements or caches are called CNAF-STORM", ":11:7"),
    ]
    assert caught.value.exit_code == 3
    assert caught.value.what == "the facility file has 3 faults"


def _misspellings(word: str) -> set[str]:
    """One slip of the fingers each: a letter left out, doubled, swapped with its neighbour, replaced."""
    middle = len(word) // 2
    return {
        word[:middle] + word[middle + 1 :],
        word[:middle] + word[middle] + word[middle:],
        word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :],
        word[:middle] + ("q" if word[middle] != "q" else "k") + word[middle + 1 :],
        word.capitalize(),
    } - {word}


_KEYS = [setting for setting in settings() if not setting.is_free]


_ELSEWHERE = {
    "services": {
        "issuer": {
            "url": "https://iam.example",
            "client_id": "x",
            **{service: {"id": "x", "secret_file": "/x"} for service in ("rucio", "transfers", "cache", "operator")},
        }
    },
    "issuers": {"aai": {"url": "https://aai.example", "paths": ["/lake/cms"]}},
    "identity_providers": {
        "aai": {"url": "https://aai.example", "client_id": "lake", "admit": {"all": {"claim": "a", "value": "b"}}}
    },
    "stores": {"cloud": {"url": "s3s://s3.example/bucket"}},
    "federations": {
        "aaa": {
            "url": "roots://aaa.example",
            "client": {"issuer": "https://iam.example", "id": "x", "secret_file": "/x", "audience": "y"},
            "everybody": ["/store"],
        }
    },
    "network": {"default": {"rtt": "20 ms"}, "links": {"north": {"between": ["CNAF", "PIC"]}}},
}


@pytest.mark.parametrize("setting", _KEYS, ids=[setting.key for setting in _KEYS])
def test_every_key_misspelt_once_names_the_right_one(setting: object, faults: Faults) -> None:
    path = setting.path  # type: ignore[attr-defined]
    document = yaml.safe_load(GOOD) | _ELSEWHERE
    siblings = {one.path[-1] for one in _KEYS if one.path[:-1] == path[:-1]}
    for wrong in _misspellings(path[-1]) - siblings:
        copy = yaml.safe_load(yaml.safe_dump(document))
        parent = copy
        for word in path[:-1]:
            parent = next(iter(parent.values())) if word.startswith("<") else parent.setdefault(word, {})
        parent[wrong] = parent.pop(path[-1], None)
        text = yaml.safe_dump(copy, sort_keys=False)
        problem = next(one for one in faults(text) if one.what.startswith(f"unknown key '{wrong}'"))
        assert problem.remedy == f"did you mean '{path[-1]}'?", wrong


def test_a_key_in_the_wrong_place_is_sent_home(faults: Faults) -> None:
    (problem,) = faults(GOOD.replace("  CNAF:\n", "  CNAF:\n    qos: FAST\n"))
    assert problem.remedy == "'qos' belongs to sites.<site>.storage.<rse>"


def test_a_misspelt_key_is_not_told_as_missing_too(faults: Faults) -> None:
    (problem,) = faults(GOOD.replace("qos", "qoss"))
    assert problem.what == "unknown key 'qoss' in sites.CNAF.storage.CNAF-STORM"


def test_a_duplicate_key_is_refused_with_both_lines(faults: Faults) -> None:
    (problem,) = faults(GOOD + "vo: other\n")
    assert (problem.what, problem.got) == ("key 'vo' stands twice in the file", "line 2 and line 15")


@pytest.mark.parametrize(
    ("text", "what", "expected"),
    [
        ("", "the facility file holds no settings", "a mapping"),
        ("- a\n- b\n", "the facility file holds no settings", "a mapping"),
        ("name: [\n", "the facility file is not YAML", None),
        ("name: a\n\tvo: b\n", "the facility file is not YAML", None),
        ("name: a\n---\nname: b\n", "the facility file is not YAML", None),
        ("name: !!python/object:os.system x\n", "the facility file is not YAML", None),
    ],
)
def test_what_is_no_facility_at_all_is_refused(text: str, what: str, expected: str | None, write: Write) -> None:
    with pytest.raises(FacilityError) as caught:
        load(write(text))
    assert caught.value.what == what
    assert expected is None or expected in str(caught.value.expected)
    assert "facility.yaml" in str(caught.value.where)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FacilityError, match="cannot read the facility file"):
        load(tmp_path / "nothing.yaml")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "facility.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FacilityError, match="not UTF-8"):
        load(tmp_path / "facility.yaml")


def test_an_alias_within_itself_is_refused(faults: Faults) -> None:
    assert any("alias" in problem.what for problem in faults("name: &a\n  name: *a\nvo: x\n"))


def test_anchors_and_merges_work(write: Write) -> None:
    text = GOOD.replace("{qos: FAST}", "&fast {qos: FAST, capacity: 1 GB}\n      DESY-DCACHE: {<<: *fast, qos: SAFE}")
    storage = load(write(text)).storage
    assert (storage["DESY-DCACHE"].qos, storage["DESY-DCACHE"].capacity) == ("SAFE", 10**9)


@pytest.mark.parametrize(
    ("old", "new", "expected", "got"),
    [
        ("name: small", "name: Small", "small letters", "Small"),
        ("{qos: FAST}", "{qos: FAST, capacity: 20 XB}", "a number and one of B, kB", "20 XB"),
        ("{qos: FAST}", "{qos: FAST, deterministic: perhaps}", "true or false", "perhaps"),
        ("{qos: FAST}", "{qos: FAST, address: here}", "IP address", "here"),
        ("{qos: FAST}", "{qos: FAST, prefix: lake}", "absolute path", "lake"),
        ("{qos: FAST}", "{qos: FAST, protocols: [https, ftp, davs]}", "'https', 'davs' or 'root'", "ftp"),
        ("[CNAF-STORM]", "lakes", "list: capital letters", "lakes"),
        ("cms: {}", "cms:", "a mapping", "nothing"),
        ("vo: escape", "vo: escape\nservices: {issuer_port: 80}", "1024", "80"),
        ("vo: escape", "vo: escape\nservices: {token_lifetime: soon}", "a number and one of s, ms", "soon"),
        ("vo: escape", "vo: no", "small letters", "false"),
    ],
)
def test_a_wrong_value_says_what_was_expected(old: str, new: str, expected: str, got: str, faults: Faults) -> None:
    (problem,) = faults(GOOD.replace(old, new, 1))
    assert expected in str(problem.expected)
    assert problem.got == got
    assert problem.remedy


def test_each_wrong_item_of_a_list_is_told(faults: Faults) -> None:
    problems = faults(GOOD.replace("[CNAF-STORM]", "[x y, CNAF-STROM, z]"))
    assert sorted(str(problem.got) for problem in problems) == ["CNAF-STROM", "x y", "z"]


def test_a_refused_name_is_not_an_unknown_name_as_well(faults: Faults) -> None:
    (problem,) = faults(GOOD.replace("  cms: {}", "  cms: {emargoed: true}"))
    assert problem.remedy == "did you mean 'embargoed'?"


def test_names_of_a_misspelt_section_are_not_unknown_as_well(faults: Faults) -> None:
    (problem,) = faults(GOOD.replace("groups:\n", "gruops:\n", 1))
    assert problem.remedy == "did you mean 'groups'?"


def test_every_fault_says_where_and_how_to_mend_it(faults: Faults) -> None:
    broken = re.sub(r"FAST|escape|(?<=\[)[A-Za-z-]+(?=\])", "§", GOOD)
    problems: list[BoathouseError] = faults(broken)
    assert problems
    for problem in problems:
        assert re.search(r"facility\.yaml:\d+:\d+$", str(problem.where))
        assert problem.remedy


def test_nesting_without_end_is_a_fault_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("a: " + "[" * 5000)
    with pytest.raises(FacilityError, match="nested too deeply"):
        load(path)


def test_a_password_in_a_url_is_not_told_and_what_is_refused_is_told_once(faults: Faults) -> None:
    stores = "stores:\n  a: {url: 'davs://me:hunter2@dav.example/x'}\n  b: {url: 'http://s3.example/x'}\n"
    problems = faults(GOOD + stores)
    assert [problem.got for problem in problems] == ["davs://…@dav.example/x", "http://s3.example/x"]
    assert "hunter2" not in str(problems)
    assert "without user and password" in str(problems[0].remedy)


def test_the_files_that_it_names_are_looked_at_too_if_wanted(write: Write, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("secret")
    (tmp_path / "empty").touch()
    names = ("there", "empty", "gone")
    stores = (f"{name}: {{url: s3s://s3.example/{name}, user: k, secret_file: {tmp_path / name}}}" for name in names)
    path = write(GOOD + "stores:\n  " + "\n  ".join(stores) + "\n")
    assert load(path).stores.keys() == set(names)
    with pytest.raises(FacilityError) as caught:
        read(path, look=read_source)
    empty, gone = caught.value.problems
    assert ("is empty" in empty.what, empty.got) == (True, str(tmp_path / "empty"))
    assert ("cannot be read" in gone.what, str(gone.where).partition("yaml:")[2]) == (True, "18:47")
    assert gone.got == f"{tmp_path / 'gone'}: No such file or directory"


def test_a_file_of_a_setting_that_is_wrong_itself_is_not_looked_for(write: Write) -> None:
    path = write(GOOD + "stores:\n  a: {url: davs://dav.example/a, secret_file: not absolute}\n")
    with pytest.raises(FacilityError) as caught:
        read(path, look=read_source)
    (problem,) = caught.value.problems
    assert problem.got == "not absolute"
