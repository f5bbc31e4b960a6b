"""Imports go one way only; the contracts stand in pyproject.toml under ``tool.importlinter``."""

from __future__ import annotations

import subprocess
import sysconfig
import tomllib
from pathlib import Path

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_PACKAGE = _PROJECT.parent / "src" / "boathouse"


def test_imports_go_one_way() -> None:
    # In a process of its own: its logging settings disable all loggers that there are.
    lint = Path(sysconfig.get_path("scripts"), "lint-imports")
    done = subprocess.run([lint, "--config", _PROJECT, "--no-cache"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


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
