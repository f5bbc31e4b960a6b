"""Imports go one way only; the contracts stand in pyproject.toml under ``tool.importlinter``."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_PACKAGE = _PROJECT.parent / "src" / "boathouse"


def test_imports_go_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    broken = lint_imports(config_filename=str(_PROJECT), no_cache=True)
    assert broken == 0, capsys.readouterr().out


def test_every_part_of_the_package_is_under_contract() -> None:
    contracts = tomllib.loads(_PROJECT.read_text())["tool"]["importlinter"]["contracts"]
    layers = set(contracts[0]["layers"])
    parts = {path.stem for path in _PACKAGE.glob("*.py")} | {
        path.parent.name for path in _PACKAGE.glob("*/__init__.py")
    }
    assert parts - {"__init__", "apps"} == layers


def test_every_daemon_is_under_contract() -> None:
    contracts = tomllib.loads(_PROJECT.read_text())["tool"]["importlinter"]["contracts"]
    independent = {name for one in contracts if one["type"] == "independence" for name in one["modules"]}
    assert independent == {f"boathouse.apps.{path.parent.name}" for path in _PACKAGE.glob("apps/*/__init__.py")}
