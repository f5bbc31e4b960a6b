"""Rules of the house that neither ruff nor mypy knows: what code must not say, how large it grows, what is tested."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PRODUCT = ("src", "install", "rucio-site/src", "bench", "examples")
MIGRATIONS = "migrations/versions"

FORBIDDEN_EVERYWHERE = {
    "certificates are always verified": r"CERT_NONE|verify *= *False|check_hostname *= *False|_create_unverified",
    "warnings about certificates are not silenced": r"disable_warnings|InsecureRequestWarning",
    "no program is told to trust anybody": r"--insecure|--no-check-certificate",
    "no shell line is built": r"shell *= *True|os\.system\(",
    "what is left to do is an issue": r"\bTODO\b|\bFIXME\b|\bXXX\b",
}
FORBIDDEN_IN_TESTS = {
    "the browser is $BOATHOUSE_HOME/browser/bin/chromium, which runs on every system": r"/usr/bin/(chromium|certutil)",
    "tests wait for a condition, never for a time": r"\bsleep\(",
    "what can be run is not mocked": r"unittest\.mock|MagicMock|\bmocker\b|import mock",
    "a missing program fails a test": r"importorskip|mark\.skip|\bskipif\b|\bxfail\b",
}
SKIP = r"pytest\.skip\((.*)\)"
ALLOWED_SKIPS = {'"the real file is not part of the project"'}
"""CMS's own files cannot be given away with the project; whoever has them gets the tests on them."""

ENVIRONMENT_READERS = {
    "src/boathouse/cli/common.py": "how this user must type a command, and on which facility",
    "src/boathouse/compute/inline.py": "gives user code the variables that a worker has, and takes them back",
    "src/boathouse/lake/environment.py": "PATH, which `env` extends",
    "src/boathouse/lake/session.py": "where the user's session lies",
    "src/boathouse/lake/sources.py": "keeps the facility's variables from servers outside the lake",
    "src/boathouse/run/doctor/machine.py": "looks for variables that mislead",
    "src/boathouse/run/programs.py": "where the installation lies",
    "src/boathouse/services/listen.py": "tells XRootD which sockets it gets",
    "src/boathouse/testing/box.py": "what a test's commands get",
}
"""Everything else is told what it needs; see CONTRIBUTING.md."""

ROWS = (
    *(1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 30, 31, 32),
    *(36, 41, 52, 53, 54, 55, 56, 57, 59, 60, 70, 71, 73, 76, 77, 79, 93, 110, 112),
)
"""Rows of the requirements that are met, each by tests named ``test_a<row>_…``."""

WISHES = (4, 6, 8, 9, 16, 21, 22)
"""Rows of what communities ask for that are met, each by tests named ``test_c<row>_…``."""

WLCG_SECTIONS = (
    *("2.1.1", "2.1.2", "2.2.1", "2.2.2", "2.2.4", "3.1", "3.2", "3.4", "4.2", "4.2.1", "4.3.1", "4.3.2"),
    *("5.2.3", "5.2.4"),
)
"""Sections of the WLCG Common JWT Profile 1.3 that demand something of an issuer."""

LONGEST_MODULE, LONGEST_FUNCTION = 600, 100


def python_files(*places: str) -> Iterator[Path]:
    """All but this file, which quotes what it forbids."""
    for place in places:
        yield from (path for path in sorted((CHECKOUT / place).rglob("*.py")) if path != Path(__file__))


def name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def found(pattern: str, files: Iterator[Path]) -> list[str]:
    return [
        f"{name(path)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(pattern, line)
    ]


@pytest.mark.parametrize("rule", FORBIDDEN_EVERYWHERE)
def test_no_line_breaks_the_rule(rule: str) -> None:
    assert found(FORBIDDEN_EVERYWHERE[rule], python_files(*PRODUCT, "tests")) == []


@pytest.mark.parametrize("rule", FORBIDDEN_IN_TESTS)
def test_no_test_breaks_the_rule(rule: str) -> None:
    assert found(FORBIDDEN_IN_TESTS[rule], python_files("tests")) == []


def test_only_data_that_we_may_not_give_away_lets_a_test_go() -> None:
    reasons = {
        match[1] for path in python_files("tests") for match in re.finditer(SKIP, path.read_text(encoding="utf-8"))
    }
    assert reasons == ALLOWED_SKIPS


def test_the_environment_is_read_in_few_places() -> None:
    pattern = r"os\.environ|os\.getenv"
    readers = {entry.split(":")[0] for entry in found(pattern, python_files("src"))}
    assert readers == set(ENVIRONMENT_READERS)


def test_modules_stay_small() -> None:
    sizes = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files(*PRODUCT)}
    assert {path: lines for path, lines in sizes.items() if lines > LONGEST_MODULE} == {}
    assert sorted(sizes.values())[len(sizes) // 2] <= 200


def test_functions_stay_small() -> None:
    long = {}
    for path in python_files(*PRODUCT):
        if MIGRATIONS in str(path):
            # One statement after another, written once and never changed.
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long[f"{name(path)}:{node.name}"] = lines
    assert long == {}


def test_every_broad_except_says_why() -> None:
    broad = found(r"except (Base)?Exception|except:", python_files(*PRODUCT))
    assert [entry for entry in broad if "#" not in entry and not _reraises(entry)] == []


def _reraises(entry: str) -> bool:
    """Whether the handler ends with ``raise``, or writes the traceback to the log: then nothing is swallowed."""
    path, number, _ = entry.split(":", 2)
    lines = (CHECKOUT / path).read_text(encoding="utf-8").splitlines()[int(number) - 1 :]
    indent = len(lines[0]) - len(lines[0].lstrip())
    body = []
    for line in lines[1:]:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        body.append(line.strip())
    return "raise" in body or any(".exception(" in line for line in body)


@pytest.mark.parametrize("app", ["tokens", "transfers"])
def test_migrations_stand_in_one_line_up_to_the_version_that_the_code_wants(app: str) -> None:
    (database,) = (CHECKOUT / "src" / "boathouse" / "apps" / app).rglob("database.py")
    scripts = sorted((database.parent / MIGRATIONS).glob("[0-9]*.py"))
    texts = [path.read_text(encoding="utf-8") for path in scripts]
    links = [re.findall(r'^(?:down_)?revision = (?:"(\w+)"|None)$', text, re.MULTILINE) for text in texts]
    head = re.search(r'^HEAD = "(\w+)"$', database.read_text(encoding="utf-8"), re.MULTILINE)
    assert head
    numbers = [f"{number:04}" for number in range(len(texts) + 1)]
    assert links == [[one, "" if before == "0000" else before] for before, one in pairwise(numbers)]
    assert head[1] == numbers[-1]


@pytest.mark.parametrize("row", ROWS)
def test_every_requirement_has_a_test_named_after_it(row: int) -> None:
    assert found(rf"def test_a{row}_", python_files("tests"))


@pytest.mark.parametrize("row", WISHES)
def test_every_wish_of_communities_that_is_met_has_a_test_named_after_it(row: int) -> None:
    assert found(rf"def test_c{row}_", python_files("tests"))


def test_every_demand_of_the_wlcg_profile_has_a_test_that_names_its_section() -> None:
    path = CHECKOUT / "tests" / "services" / "tokens" / "test_wlcg_profile.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "PROFILE"
    )
    profile: dict[str, str] = ast.literal_eval(table)
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    assert set(profile.values()) == tests
    sections = {demand.partition(" ")[0] for demand in profile}
    assert sections == set(WLCG_SECTIONS)
    for demand, test in profile.items():
        assert test.startswith(f"test_{demand.partition(' ')[0].replace('.', '_')}_"), demand
