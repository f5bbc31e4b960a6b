"""The documentation says what the code does: pages made from it are fresh, commands and files that it names exist."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import boathouse
from boathouse.cli.reference import commands, pages, root
from boathouse.facility.load import load

CHECKOUT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("locks/*.md"))
    if path.name != "LICENSE.md"
)
COMMANDS = {context.command_path: command for context, command in commands(root())}


def _id(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("name", sorted(pages()))
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    written = (CHECKOUT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == pages()[name], "run `make docs` and commit"


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def _texts(module: ast.Module) -> Iterator[str]:
    """Literals of a module that are no docstrings; what an f-string fills in is ``…``."""
    for node in ast.walk(module):
        for child in () if isinstance(node, ast.Expr) else ast.iter_child_nodes(node):
            if isinstance(child, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in child.values)
            elif isinstance(child, ast.Constant) and isinstance(child.value, str):
                yield child.value


def test_messages_that_trouble_is_found_by_are_those_of_the_programs() -> None:
    page = (CHECKOUT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| it says \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    messages = [line.split(" | ")[0].removeprefix("| ") for table in tables for line in table.splitlines()]
    assert len(tables) == 3
    assert len(messages) > 15
    programs = [path for folder in ("src", "install", "rucio-site/src") for path in (CHECKOUT / folder).rglob("*.py")]
    said = [text for path in programs for text in _texts(ast.parse(path.read_text(encoding="utf-8")))]
    said.append((CHECKOUT / "install" / "python").read_text(encoding="utf-8"))
    assert [message for message in messages if not any(message in text for text in said)] == []


def test_every_topic_is_linked_from_the_readme() -> None:
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert [
        path.name for path in CHECKOUT.glob("docs/*/*.md") if path.parent.name == "topics" and path.name not in readme
    ] == []


def _spoken_commands(text: str) -> list[list[str]]:
    """Words of each ``boathouse …`` in code, up to the first that is no plain word."""
    code = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    spoken = [found for part in code for found in re.findall(r"(?:^|[\s(\"])(?:\./)?boathouse ([a-z][^\n#|;)]*)", part)]
    return [shlex.split(words, posix=False) for words in spoken]


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_commands_and_options_exist(path: Path) -> None:
    nouns = [name.split(" ")[:-1] for name in COMMANDS]
    groups = {" ".join(noun[:count]) for noun in nouns for count in range(2, len(noun) + 1)}
    for words in _spoken_commands(path.read_text(encoding="utf-8")):
        name = "boathouse"
        for word in words:
            name = f"{name} {word}"
            if name not in groups:
                break
        if name in groups:
            continue
        assert name in COMMANDS, words
        known = {"--help"} | {option for one in COMMANDS[name].params for option in (*one.opts, *one.secondary_opts)}
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= known, words


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    text = path.read_text(encoding="utf-8")
    code = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    spoken = {word for part in code for words in re.findall(r"\bmake ((?:[a-z]+ ?)+)", part) for word in words.split()}
    assert spoken <= targets


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_files_and_tests_that_are_named_exist(path: Path) -> None:
    named = re.findall(
        r"`((?:tests|src|docs|install|examples|locks|rucio-site)/[\w./-]+)`", path.read_text(encoding="utf-8")
    )
    assert [name for name in named if not (CHECKOUT / name).exists()] == []


def test_the_facility_file_of_the_readme_is_good(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (CHECKOUT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "facility.yaml").write_text(text)
    assert load(tmp_path / "facility.yaml").name == yaml.safe_load(text)["name"]


def test_every_command_has_help_and_an_example() -> None:
    for name, command in COMMANDS.items():
        assert (command.help or "").strip(), name
        assert f"{name}" in (command.epilog or ""), f"{name} has no example"
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_the_version_is_the_changelogs_newest() -> None:
    (newest, *_) = re.findall(r"^## (\d+\.\d+\.\d+)", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest == boathouse.__version__


def test_the_licence_is_the_one_that_is_named() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (CHECKOUT / "LICENSE").read_text()
