"""nginx from Debian, in a tree of its own: benchmarks read through it beside our caches.

The host's own package would start a web server for everybody.
"""

from __future__ import annotations

from pathlib import Path

from install import debian_tree
from install.debian_recipe import Program, Recipe, Say

_TREE = Recipe(what="nginx", packages=("nginx",), programs=(Program("nginx", "usr/sbin/nginx"),))


def install(into: Path, say: Say) -> None:
    """``nginx`` below ``bin`` in a directory, fetched if need be.

    Raises:
        HostError: it cannot be had.
    """
    debian_tree.provide(into, _TREE, "for benchmarks", say)
