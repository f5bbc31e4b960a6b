"""Package indexes: uv is told what the machine's pip is configured with, so that mirrors work unasked."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from pathlib import Path

from install.host import run

# pip's setting → uv's variable; several values of one are separated as uv wants them.
_SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "proxy": ("ALL_PROXY", " "),
}
# Later ones win, as in pip.
_SECTIONS = ("global", "install", ":env:")


def parse_pip_config(listing: str) -> dict[str, str]:
    """Settings from ``pip config list``, whose lines are ``section.name='value'``."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listing.splitlines():
        key, separator, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if separator and section in found:
            found[section][name] = str(ast.literal_eval(value))
    return {name: value for section in _SECTIONS for name, value in found[section].items()}


def uv_environment(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that make uv look where pip would; what the caller set for uv stays as it is."""
    variables: dict[str, str] = {}
    for name, (variable, separator) in _SETTINGS.items():
        words = settings.get(name, "").split()
        if words and variable not in environment:
            variables[variable] = separator.join(words)
    if "UV_INDEX" in variables:
        # pip takes a file from whichever index has it; the hashes decide what is right.
        variables.setdefault("UV_INDEX_STRATEGY", environment.get("UV_INDEX_STRATEGY", "unsafe-best-match"))
    return variables


def from_pip(python: Path) -> dict[str, str]:
    """Variables for uv from the configuration of an environment's pip.

    Raises:
        HostError: pip does not run.
    """
    listing = run([python, "-m", "pip", "config", "list"], doing="read the configuration of pip")
    return uv_environment(parse_pip_config(listing), os.environ)
